/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ledger.c: who holds how much, of all helpers together.  The ledger is one
 * empty file; what a helper holds is locked in it, a byte for each page, by an
 * open file description lock (fs/locks.c), which the kernel takes back when its
 * holder dies, however it dies.  No helper ever waits for another: one may be
 * frozen by the user whom it serves.  Must not know what is held.
 *
 * User U has the bytes from U << 30: half of them for pages, then one for each
 * helper.  The last user, (uid_t)-1, which nobody can be, stands for all.
 */
#include "config.h"
#include "helper.h"

#define FILE_NAME "ledger"
#define USER_SHIFT 30
#define HALF (UINT64_C(1) << (USER_SHIFT - 1))
#define TOTAL UINT32_MAX

/* A user could make everybody's search slow with many small ranges. */
#define RANGES 256

struct range {
	uint64_t from, to; /* the byte after its last */
};

struct book {
	struct range all;
	struct range held[RANGES];
	unsigned count;
};

static struct book users, total, helpers;

/* Two descriptions of the file: through one, its own locks are not seen. */
static int holding = -1, looking = -1;
static uint64_t spread; /* where to begin, of one helper unlike another's */

static struct range
range(uint64_t from, uint64_t size)
{
	return (struct range){ from, from + MIN(size, HALF) };
}

/* What the last range_lock() was answered. */
static struct flock seen;

static int
range_lock(int fd, int command, int type, struct range r)
{
	seen = (struct flock){ .l_type = (short)type, .l_whence = SEEK_SET,
	    .l_start = (off_t)r.from, .l_len = (off_t)(r.to - r.from) };
	return fcntl(fd, command, &seen);
}

/* The lowest part of SEARCHED that nobody holds; false if there is none. */
static bool
gap_find(struct range searched, struct range *gap)
{
	*gap = searched;
	while (gap->from < gap->to &&
	    range_lock(looking, F_OFD_GETLK, F_WRLCK, *gap) == 0) {
		if (seen.l_type == F_UNLCK)
			return true;
		if ((uint64_t)seen.l_start > gap->from)
			gap->to = (uint64_t)seen.l_start;
		else /* no length is the longest */
			*gap = (struct range){ seen.l_len == 0 ? searched.to :
			    (uint64_t)(seen.l_start + seen.l_len),
			    searched.to };
	}
	return false;
}

/* The bytes in SEARCHED that nobody holds; counted until that is ENOUGH. */
static uint64_t
range_free(struct range searched, uint64_t enough)
{
	struct range gap;
	uint64_t bytes = 0;

	for (; bytes < enough && gap_find(searched, &gap);
	    searched.from = gap.to)
		bytes += gap.to - gap.from;
	return bytes;
}

/* Any N bytes will do: those that came last. */
static void
book_give(struct book *book, uint64_t n)
{
	struct range *last, r;

	for (; n > 0 && book->count > 0; n -= r.to - r.from) {
		last = &book->held[book->count - 1];
		r.to = last->to;
		r.from = r.to - MIN(n, r.to - last->from);
		range_lock(holding, F_OFD_SETLK, F_UNLCK, r);
		last->to = r.from;
		if (last->to == last->from)
			book->count--;
	}
}

/* False if R cannot be held; errno is EAGAIN if somebody else was faster. */
static bool
book_add(struct book *book, struct range r)
{
	struct range *at = &book->held[book->count];
	bool grows = book->count > 0 && at[-1].to == r.from;

	errno = ENOLCK;
	if ((!grows && book->count == RANGES) ||
	    range_lock(holding, F_OFD_SETLK, F_WRLCK, r) == -1)
		return false;
	at -= grows;
	*at = (struct range){ grows ? at->from : r.from, r.to };
	book->count += !grows;
	return true;
}

/*
 * Behind what we hold already; where that is taken, at a place of this helper's
 * own, so that two that grow do so apart; from there to the end, and round.
 */
static bool
book_take(struct book *book, uint64_t n)
{
	const struct range all = book->all;
	struct range searched, gap;
	uint64_t start, taken = 0;

	/* Who asks for more than there is must not hold it for a moment. */
	if (range_free(all, n) < n)
		return false;
	start = book->count > 0 ? book->held[book->count - 1].to : all.to;
	if (!gap_find((struct range){ start, all.to }, &gap) ||
	    gap.from != start)
		start = all.from + spread * (book->count + 1) %
		    (all.to - all.from);
	for (int pass = 0; pass < 2; pass++) {
		searched.from = pass == 0 ? start : all.from;
		searched.to = pass == 0 ? all.to : start;
		for (; taken < n && gap_find(searched, &gap);
		    searched.from = gap.from) {
			gap.to = MIN(gap.to, gap.from + (n - taken));
			if (book_add(book, gap))
				taken += gap.to - gap.from;
			else if (errno != EAGAIN && errno != EACCES)
				break;
		}
	}
	if (taken < n)
		book_give(book, taken);
	return taken == n;
}

void
ledger_prepare(const struct account *owner)
{
	struct stat st;

	/* Whoever has made it may have been killed before it had its owner. */
	if (geteuid() == 0 && owner->uid != 0 &&
	    (mkdir(LEDGER_DIR, 0700) == 0 || errno == EEXIST) &&
	    lstat(LEDGER_DIR, &st) == 0 && st.st_mode == (S_IFDIR | S_IRWXU) &&
	    st.st_uid == 0 && lchown(LEDGER_DIR, owner->uid, owner->gid) == -1)
		errno = EPERM; /* as will be found out */
}

/* Ours alone: whoever can open the file, if only to read, can block it. */
static bool
is_private(int fd, mode_t type)
{
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1)
		return false;
	errno = EPERM;
	return (st.st_mode & S_IFMT) == type &&
	    (st.st_mode & (S_IRWXG | S_IRWXO)) == 0 &&
	    (st.st_uid == geteuid() || geteuid() == 0);
}

/* Root, who only looks, makes no file that others could not open. */
static bool
files_open(void)
{
	const int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	int dir = open(LEDGER_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
	    O_CLOEXEC);

	if (is_private(dir, S_IFDIR)) {
		holding = openat(dir, FILE_NAME,
		    flags | O_RDWR | (geteuid() == 0 ? 0 : O_CREAT), 0600);
		if (is_private(holding, S_IFREG))
			looking = openat(dir, FILE_NAME, flags | O_RDONLY);
	}
	if (dir != -1)
		close(dir); /* which leaves errno alone */
	return looking != -1;
}

enum wire_status
ledger_open(uid_t uid, const struct policy *policy)
{
	const uint64_t base = (uint64_t)uid << USER_SHIFT;

	spread = (uint64_t)getpid() * UINT64_C(2654435761);
	if (!files_open())
		return refuse(WIRE_EPERM, LEDGER_DIR ": %s", strerror(errno));
	users.all = range(base, policy->limit.value / page_size());
	helpers.all = range(base + HALF, policy->helpers.value);
	total.all = range((uint64_t)TOTAL << USER_SHIFT,
	    policy->total.value / page_size());
	if (!book_take(&helpers, 1))
		return refuse(WIRE_EDQUOT, "more than %" PRIu64 " helpers",
		    policy->helpers.value);
	return WIRE_OK;
}

const char *
ledger_take(uint64_t pages)
{
	if (holding == -1)
		return NULL;
	if (range_free(total.all, pages) < pages)
		return "the total";
	if (!book_take(&users, pages))
		return "the user's limit";
	if (book_take(&total, pages))
		return NULL;
	book_give(&users, pages);
	return "the total";
}

void
ledger_give(uint64_t pages)
{
	book_give(&total, pages);
	book_give(&users, pages);
}

uint64_t
ledger_left(void)
{
	return holding == -1 ? UINT64_MAX :
	    range_free(users.all, UINT64_MAX);
}

/* COUNT is added to the helpers.  Returns the sum. */
static uint64_t
user_print(uint64_t uid, uint64_t count)
{
	const struct passwd *pw = uid == TOTAL ? NULL : getpwuid((uid_t)uid);
	struct range pages = range(uid << USER_SHIFT, HALF);
	char number[sizeof("4294967295")];

	snprintf(number, sizeof(number), "%" PRIu64, uid);
	count += HALF - range_free(range(pages.to, HALF), HALF);
	printf("%-32s %8" PRIu64 " %16" PRIu64 "\n", uid == TOTAL ? "total" :
	    pw != NULL ? pw->pw_name : number, count,
	    (HALF - range_free(pages, HALF)) * page_size());
	return count;
}

bool
ledger_print(void)
{
	struct range gap, searched = { 0, (uint64_t)TOTAL << USER_SHIFT };
	uint64_t count = 0;

	if (!files_open() &&
	    (errno != ENOENT || access(LEDGER_DIR, F_OK) == -1))
		return false;
	printf("%-32s %8s %16s\n", "user", "helpers", "bytes");
	while (looking != -1 && searched.from < searched.to) {
		if (gap_find(searched, &gap) && gap.from == searched.from)
			searched.from = gap.to;
		if (searched.from < searched.to)
			count += user_print(searched.from >> USER_SHIFT, 0);
		searched.from = (searched.from | (2 * HALF - 1)) + 1;
	}
	if (looking != -1)
		user_print(TOTAL, count);
	return true;
}
