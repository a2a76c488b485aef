/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * policy.c: a fuzzer for the policy's text, which is the input; reads it a
 * second time, by the words of secmalloc.conf(5), and compares.  It must not
 * know how the parser goes about it, and the accounts are its own.
 */
#include "config.h"
#include "helper.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

#define PATH "/etc/secmalloc.conf"

enum {
	PAGE = 4096,
	PHYS_PAGES = 1000037, /* not a multiple of 100 */
	TEXT_MAX = 64 * 1024
};

#define must(cond) \
	((cond) ? (void)0 : broken(#cond, __LINE__))

_Noreturn static void
broken(const char *what, int line)
{
	fprintf(stderr, "policy.c:%d: not so: %s\n", line, what);
	abort();
}

/* --- The system's accounts ------------------------------------------------ */

/* The error of a name that cannot be looked up is what getpwnam(3) gives it. */
static const struct account_known {
	const char *name;
	uint32_t id;
	int error;
} users[] = {
	{ "alice", 1000, 0 }, { "bob", 1001, 0 }, { "root", 0, 0 },
	{ "last", UINT32_MAX - 1, 0 }, { "7up", 7, 0 }, { "b", 1001, 0 },
	{ "broken", 0, EIO }, { "full", 0, EMFILE }, { "none", 0, ENOENT },
	{ "nobody", 0, ESRCH },
}, groups[] = {
	{ "crypto", 2000, 0 }, { "staff", 50, 0 }, { "alice", 1000, 0 },
	{ "wheel", 0, 0 }, { "c", 2000, 0 },
	{ "broken", 0, EIO }, { "none", 0, ENOENT },
};

static const struct account_known *
known_find(const struct account_known *known, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	return NULL;
}

/* Nothing but a word of the text is ever looked up, and no number. */
static const struct account_known *
known_ask(const struct account_known *known, size_t count, const char *name)
{
	const struct account_known *found = known_find(known, count, name);

	must(*name != '\0' && strpbrk(name, " \t\n#") == NULL);
	must(strspn(name, "0123456789") < strlen(name));
#ifdef PLANTED
	/* To be found: a name of more than 32 bytes is written past its end. */
	char copy[33];

	strcpy(copy, name);
	must(copy[0] == name[0]);
#endif
	if (found != NULL && found->error != 0)
		errno = found->error;
	return found == NULL || found->error != 0 ? NULL : found;
}

static struct passwd *
known_user(const char *name)
{
	static struct passwd pw;
	const struct account_known *found = known_ask(users, COUNT(users),
	    name);

	if (found != NULL)
		pw.pw_uid = found->id;
	return found == NULL ? NULL : &pw;
}

static struct group *
known_group(const char *name)
{
	static struct group gr;
	const struct account_known *found = known_ask(groups, COUNT(groups),
	    name);

	if (found != NULL)
		gr.gr_gid = found->id;
	return found == NULL ? NULL : &gr;
}

uint64_t
page_size(void)
{
	return PAGE;
}

#define getpwnam(name) known_user(name)
#define getgrnam(name) known_group(name)
/* The file, whatever its path: what was written to it by file_write(). */
static int file = -1;

static int
file_open(const char *path, int flags)
{
	must(strcmp(path, PATH) == 0);
	must((flags & O_ACCMODE) == O_RDONLY && (flags & O_NOFOLLOW) != 0);
	must(lseek(file, 0, SEEK_SET) == 0);
	return fcntl(file, F_DUPFD_CLOEXEC, 0);
}

#define open(path, flags) file_open(path, flags)
#define sysconf(name) ((name) == _SC_PHYS_PAGES ? PHYS_PAGES : -1L)

#include "../../helper/log.c"
#include "../../helper/policy.c"

static const struct client clients[] = {
	{ .uid = 1000, .group_count = 3, .groups = { 1000, 2000, 50 } },
	{ .uid = 1001, .group_count = 1, .groups = { 1001 } },
	{ .uid = 0, .group_count = 1, .groups = { 0 } },
	{ .uid = UINT32_MAX - 1, .group_count = 2,
	    .groups = { UINT32_MAX - 1, 2000 } },
	{ .uid = 64738, .group_count = 0 },
};

/* --- The same by the book ------------------------------------------------- */

/* A word is not terminated: it is its LENGTH bytes. */
struct word {
	const char *at;
	size_t length;
};

static bool
is(struct word w, const char *text)
{
	return w.length == strlen(text) && memcmp(w.at, text, w.length) == 0;
}

static bool
is_digits(struct word w)
{
	for (size_t i = 0; i < w.length; i++)
		if (w.at[i] < '0' || w.at[i] > '9')
			return false;
	return w.length > 0;
}

/* False if it is no number or larger than MOST. */
static bool
book_number(struct word w, uint64_t most, uint64_t *value)
{
	uint64_t digit;

	*value = 0;
	if (!is_digits(w))
		return false;
	for (size_t i = 0; i < w.length; i++) {
		digit = (uint64_t)(w.at[i] - '0');
		if (digit > most || *value > (most - digit) / 10)
			return false;
		*value = *value * 10 + digit;
	}
	return true;
}

static bool
book_size(struct word w, uint64_t *value)
{
	static const struct {
		char unit;
		unsigned shift;
	} units[] = { { 'K', 10 }, { 'M', 20 }, { 'G', 30 } };
	struct word digits = { w.at, w.length - 1 };

	for (size_t i = 0; i < COUNT(units); i++)
		if (w.at[w.length - 1] == units[i].unit) {
			if (!book_number(digits, UINT64_MAX >> units[i].shift,
			    value))
				return false;
			*value <<= units[i].shift;
			return true;
		}
	if (w.at[w.length - 1] != '%')
		return book_number(w, UINT64_MAX, value);
	if (!book_number(digits, 100, value))
		return false;
	*value *= (uint64_t)PAGE * (PHYS_PAGES / 100);
	return true;
}

static bool
is_of_group(const struct client *client, uint64_t gid)
{
	for (size_t i = 0; i < client->group_count; i++)
		if (client->groups[i] == gid)
			return true;
	return false;
}

/* False if it is wrong; else how narrowly it means the client. */
static bool
book_domain(struct word w, const struct client *client, enum rank *rank)
{
	bool of_group = w.at[0] == '@';
	const struct account_known *known = of_group ? groups : users, *found;
	size_t count = of_group ? COUNT(groups) : COUNT(users);
	struct word name = { w.at + of_group, w.length - of_group };
	char text[TEXT_MAX + 1];
	uint64_t id;

	*rank = RANK_NONE;
	if (is(w, "*")) {
		*rank = RANK_ALL;
		return true;
	}
	if (is_digits(name)) {
		if (!book_number(name, UINT32_MAX - 1, &id))
			return false;
	} else {
		memcpy(text, name.at, name.length);
		text[name.length] = '\0';
		found = known_find(known, count, text);
		if (found == NULL || found->error != 0)
			return false;
		id = found->id;
	}
	if (of_group && is_of_group(client, id))
		*rank = RANK_GROUP;
	if (!of_group && client->uid == id)
		*rank = RANK_USER;
	return true;
}

/* The words of a line, of which at most MOST are stored. */
static size_t
book_words(const char *line, size_t length, struct word *words, size_t most)
{
	size_t count = 0, start;

	for (size_t i = 0; i < length && line[i] != '#';) {
		for (start = i; i < length && line[i] != '#' &&
		    line[i] != ' ' && line[i] != '\t'; i++)
			;
		if (i == start) {
			i++;
			continue;
		}
		if (count < most)
			words[count] = (struct word){ line + start, i - start };
		count++;
	}
	return count;
}

static bool
book_line(const char *line, size_t length, const struct client *client,
    struct policy *p)
{
	struct word w[3];
	size_t count = book_words(line, length, w, COUNT(w));
	bool of_total = count > 0 && is(w[0], "total"), right;
	struct rule *rule = of_total ? &p->total :
	    count > 0 && is(w[0], "limit") ? &p->limit : &p->helpers;
	enum rank rank = RANK_ALL;
	uint64_t value;

	if (count == 0)
		return true;
	if (count != (of_total ? 2 : 3) || (rule == &p->helpers &&
	    !is(w[0], "helpers")) || (of_total && p->total.rank != RANK_NONE))
		return false;
	if (!of_total && !book_domain(w[1], client, &rank))
		return false;
	right = rule == &p->helpers ? book_number(w[2], UINT64_MAX, &value) :
	    book_size(w[count - 1], &value);
	if (right && rank != RANK_NONE && (rank > rule->rank ||
	    (rank == rule->rank && value > rule->value)))
		*rule = (struct rule){ value, rank };
	return right;
}

/* 0, or the number of the first line that is wrong. */
static int
book_policy(const char *text, const struct client *client, struct policy *p)
{
	int n = 1;
	size_t length;

	*p = (struct policy){
	    { (uint64_t)25 * PAGE * (PHYS_PAGES / 100), RANK_NONE },
	    { UINT64_C(67108864), RANK_NONE }, { 64, RANK_NONE } };
	for (;; n++) {
		length = strcspn(text, "\n");
		if (!book_line(text, length, client, p))
			return n;
		if (text[length] == '\0')
			return 0;
		text += length + 1;
	}
}

/* --- What must be so ------------------------------------------------------ */

static void
same(const struct policy *a, const struct policy *b)
{
	must(a->total.value == b->total.value);
	must(a->limit.value == b->limit.value);
	must(a->helpers.value == b->helpers.value);
	must(a->limit.rank == b->limit.rank);
	must(a->helpers.rank == b->helpers.rank);
}

/* It says which line of which file, on one line that a terminal can bear. */
static void
why_check(const char *why, int line)
{
	size_t length = strnlen(why, WHY_SIZE);
	char begin[sizeof(PATH) + 16];

	must(length < WHY_SIZE);
	snprintf(begin, sizeof(begin), PATH ":%d: '", line);
	must(strncmp(why, begin, strlen(begin)) == 0);
	for (size_t i = 0; i < length; i++)
		must(why[i] >= ' ' && why[i] <= '~');
}

/* Parsed out of a block of its own, so that a byte too far is noticed. */
static bool
parse(const char *text, size_t length, const struct client *client,
    struct policy *p, char why[WHY_SIZE])
{
	char *own = malloc(length + 1);
	bool result;

	must(own != NULL);
	memcpy(own, text, length);
	own[length] = '\0';
	memset(p, 0xa5, sizeof(*p));
	memset(why, 0xa5, WHY_SIZE);
	result = policy_parse(PATH, own, client, p, why);
	free(own);
	return result;
}

/* The lines in the opposite order. */
static void
turn(const char *text, size_t length, char *turned)
{
	size_t to = length, line;

	for (; length > 0 || *text != '\0'; text += line + 1) {
		line = strcspn(text, "\n");
		to -= line;
		memcpy(turned + to, text, line);
		if (to == 0)
			break;
		turned[--to] = '\n';
	}
}

/* What may not matter, and what may not raise anything. */
static void
variants_check(const char *text, size_t length, const struct client *client,
    const struct policy *p)
{
	static const char more[] = "\nlimit * 0 # \nhelpers\t*\t0";
	static char other[TEXT_MAX + sizeof(more)];
	char why[WHY_SIZE];
	struct policy q;

	turn(text, length, other);
	must(parse(other, length, client, &q, why));
	same(p, &q);
	memcpy(other, text, length);
	memcpy(other + length, more, sizeof(more));
	must(parse(other, length + sizeof(more) - 1, client, &q, why));
	must(q.total.value == p->total.value);
	must(q.limit.value == (p->limit.rank == RANK_NONE ? 0 :
	    p->limit.value));
	must(q.helpers.value == (p->helpers.rank == RANK_NONE ? 0 :
	    p->helpers.value));
}

static void
file_write(const uint8_t *data, size_t size, mode_t mode)
{
	if (file == -1)
		file = memfd_create(NAME, MFD_CLOEXEC);
	must(file != -1 && ftruncate(file, 0) == 0);
	must(pwrite(file, data, size, 0) == (ssize_t)size);
	must(fchmod(file, mode) == 0);
}

/* What a file comes to: P, unless it is refused as a whole. */
static void
file_check(const uint8_t *data, size_t size, const struct client *client,
    const struct policy *p, bool right)
{
	static const mode_t modes[] = { 0600, 0644, 0664, 0646 };
	bool whole = size <= TEXT_MAX && memchr(data, '\0', size) == NULL,
	    safe;
	char why[WHY_SIZE];
	struct policy q;

	for (size_t i = 0; i < COUNT(modes); i++) {
		file_write(data, size, modes[i]);
		safe = geteuid() == 0 && (modes[i] & 026) == 04;
		must(policy_read(PATH, true, client, &q, why) ==
		    (whole && right));
		if (whole && right)
			same(p, &q);
		must(policy_read(PATH, false, client, &q, why) ==
		    (whole && right && safe));
		if (!whole || !safe)
			must(strncmp(why, PATH ": ", strlen(PATH ": ")) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[TEXT_MAX + 1];
	size_t length = strnlen((const char *)data, MIN(size, TEXT_MAX));
	struct policy p, again;
	char why[WHY_SIZE];
	int wrong = 0;

	memcpy(text, data, length);
	text[length] = '\0';
	for (size_t i = 0; i < COUNT(clients); i++) {
		wrong = book_policy(text, &clients[i], &again);
		must(parse(text, length, &clients[i], &p, why) == (wrong == 0));
		if (wrong != 0) {
			why_check(why, wrong);
			continue;
		}
		same(&p, &again);
		must(p.total.rank == again.total.rank);
		variants_check(text, length, &clients[i], &p);
	}
	/* P is what the last client has of the text up to a null byte. */
	file_check(data, size, &clients[COUNT(clients) - 1], &p, wrong == 0);
	return 0;
}
