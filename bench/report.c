/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * report.c: what the rounds gave, as a table, as goals met or missed, and as
 * JSON.  Medians are over rounds; a spread is from the least to the greatest.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "bench.h"
#include "secmalloc.h"

static int
compare(const void *a, const void *b)
{
	const double *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

static struct spread
spread_over(double *values, unsigned count)
{
	struct spread spread;

	qsort(values, count, sizeof(values[0]), compare);
	spread.min = values[0];
	spread.max = values[count - 1];
	spread.median = (values[(count - 1) / 2] + values[count / 2]) / 2;
	return spread;
}

bool
spread_of(const struct cell *cell, struct spread *spread)
{
	double values[ROUNDS_MAX];

	if (cell->rounds == 0)
		return false;
	memcpy(values, cell->value, cell->rounds * sizeof(values[0]));
	*spread = spread_over(values, cell->rounds);
	return true;
}

bool
ratios_of(const struct cell *a, const struct cell *b, struct spread *spread)
{
	double values[ROUNDS_MAX];

	if (a->rounds == 0 || a->rounds != b->rounds)
		return false;
	for (unsigned r = 0; r < a->rounds; r++)
		values[r] = a->value[r] / b->value[r];
	*spread = spread_over(values, a->rounds);
	return true;
}

const struct cell *
cell_named(const struct results *results, const char *workload,
    const char *peer)
{
	for (size_t w = 0; w < WORKLOADS; w++) {
		for (size_t p = 0; p < PEERS; p++) {
			if (strcmp(workloads[w].name, workload) == 0 &&
			    strcmp(peers[p]->name, peer) == 0)
				return &results->cells[w][p];
		}
	}
	abort();
}

bool
wanted(const struct results *results, const char *workload)
{
	for (size_t w = 0; w < WORKLOADS; w++) {
		if (strcmp(workloads[w].name, workload) == 0)
			return results->wanted[w];
	}
	abort();
}

/* --- The machine ------------------------------------------------------------ */

static void
processor(char name[128])
{
	FILE *info = fopen("/proc/cpuinfo", "re");
	char line[256];

	(void)snprintf(name, 128, "a processor without a name");
	if (info == NULL)
		return;
	while (fgets(line, sizeof(line), info) != NULL) {
		if (sscanf(line, "model name : %127[^\n]", name) == 1)
			break;
	}
	(void)fclose(info);
}

void
machine(char text[512])
{
	struct utsname name;
	char model[128];

	processor(model);
	if (uname(&name) == -1)
		memset(&name, 0, sizeof(name));
	(void)snprintf(text, 512, "%s, %s %.64s, %.32s", model, name.sysname,
	    name.release, name.machine);
}

/* --- The table -------------------------------------------------------------- */

/* Three digits that count, whatever the magnitude. */
static const char *
figure(double value, char text[32])
{
	int places = value >= 100 ? 0 : value >= 10 ? 1 : 2;

	(void)snprintf(text, 32, "%.*f", places, value);
	return text;
}

/* A small one as a fraction, in which it can be read. */
static const char *
ratio(double value, char text[32])
{
	if (value < 0.05 && value > 0)
		(void)snprintf(text, 32, "1/%.0f", 1 / value);
	else
		(void)snprintf(text, 32, "%.*f", value < 0.1 ? 3 : 2, value);
	return text;
}

static void
report_line(FILE *out, const struct results *results, size_t w, size_t p)
{
	const struct cell *cell = &results->cells[w][p];
	char median[32], min[32], max[32], range[80], text[32] = "";
	struct spread spread, ratios;

	(void)fprintf(out, "  %-12s ", peers[p]->title);
	if (!spread_of(cell, &spread)) {
		(void)fprintf(out, "%9s  %s\n", "n/a", cell->reason);
		return;
	}
	(void)snprintf(range, sizeof(range), "%s..%s", figure(spread.min, min),
	    figure(spread.max, max));
	if (p != OURS && ratios_of(&results->cells[w][OURS], cell, &ratios))
		(void)ratio(ratios.median, text);
	(void)fprintf(out, "%9s %17s%*s\n", figure(spread.median, median),
	    range, text[0] != '\0' ? 9 : 0, text);
}

void
report_table(FILE *out, const struct results *results)
{
	char text[512];

	machine(text);
	(void)fprintf(out, "secmalloc %s, %s\n", SECMALLOC_VERSION_STRING,
	    text);
	(void)fprintf(out, "locked by %s\n", results->locked_by);
	(void)fprintf(out, "%u round%s%s: ns of an operation, of each thread, "
	    "median and min..max;\nratio: median of ours/theirs in the same "
	    "round; the first and last byte of all is written\n",
	    results->rounds, results->rounds == 1 ? "" : "s",
	    results->quick ? ", too quick to mean anything" : "");
	for (size_t p = 0; p < PEERS; p++) {
		if (peers[p]->loops == NULL)
			(void)fprintf(out, "missing: %s\n", peers[p]->title);
		else if (results->selected[p] && peers[p]->remark != NULL)
			(void)fprintf(out, "%s: %s\n", peers[p]->title,
			    peers[p]->remark);
	}
	for (size_t w = 0; w < WORKLOADS; w++) {
		if (!results->wanted[w])
			continue;
		(void)fprintf(out, "\n%-36s %-10s ratio\n",
		    workloads[w].title, workloads[w].kind == FILL ?
		    "bytes" : "ns");
		for (size_t p = 0; p < PEERS; p++) {
			if (results->selected[p])
				report_line(out, results, w, p);
		}
	}
	if (results->instructions > 0)
		(void)fprintf(out, "\ninstructions of a pair of 64 bytes of ours: "
		    "%.1f within secmalloc() and secfree(), %.1f around them\n"
		    "(callgrind, differences of two runs, so that the start "
		    "cancels)\n", results->instructions,
		    results->instructions_of_loop);
	else if (results->selected[OURS])
		(void)fprintf(out, "\ninstructions of a pair: n/a: %s\n",
		    results->no_instructions);
}

/* --- Goals ------------------------------------------------------------------ */

/* At most this, of one median of ratios; or, where a payload, at least. */
struct goal {
	const char *workload;
	const char *peer;      /* NULL: not another's, but ours of AGAINST */
	const char *against;
	double limit;
	double aim;            /* 0: none */
};

static const struct goal goals[] = {
	{ "pair-16", "glibc", NULL, 1.15, 1.0 },
	{ "pair-64", "glibc", NULL, 1.15, 1.0 },
	{ "pair-256", "glibc", NULL, 1.15, 1.0 },
	{ "pair-16", "bzero", NULL, 0.8, 0.65 },
	{ "pair-64", "bzero", NULL, 0.8, 0.65 },
	{ "pair-256", "bzero", NULL, 0.8, 0.65 },
	{ "pair-16", "openssl", NULL, 1 / 80.0, 0 },
	{ "pair-64", "openssl", NULL, 1 / 80.0, 0 },
	{ "pair-256", "openssl", NULL, 1 / 80.0, 0 },
	{ "pair-16", "sodium", NULL, 1 / 1500.0, 0 },
	{ "pair-64", "sodium", NULL, 1 / 1500.0, 0 },
	{ "pair-256", "sodium", NULL, 1 / 1500.0, 0 },
	{ "pair-4k", "bzero", NULL, 1.1, 0.95 },
	{ "pair-16k", "bzero", NULL, 1.1, 0.95 },
	{ "pair-64k", "bzero", NULL, 1.1, 0.95 },
	{ "set-1k", "bzero", NULL, 1.05, 0.85 },
	{ "set-10k", "bzero", NULL, 0.95, 0.8 },
	{ "set-100k", "bzero", NULL, 0.8, 0.65 },
	{ "threads-1k", NULL, "set-1k", 1.1, 1.0 },
	{ "threads-10k", NULL, "set-10k", 1.1, 1.0 },
	{ "threads-100k", NULL, "set-100k", 1.1, 1.0 },
	{ "threads-1k", "openssl", NULL, 1 / 15.0, 0 },
	{ "threads-10k", "openssl", NULL, 1 / 15.0, 0 },
	{ "threads-100k", "openssl", NULL, 1 / 15.0, 0 },
	{ "ring", "glibc", NULL, 0.12, 0.06 },
	{ "live-100k", NULL, "live-100", 1.15, 1.0 },
	{ "double", "bzero", NULL, 1.0, 0.6 },
	{ "step", "glibc", NULL, 1.0, 0.6 },
	{ "fill", NULL, NULL, 0.75, 0.78 },
	{ NULL, NULL, NULL, 90, 0 },
};
enum { GOALS = sizeof(goals) / sizeof(goals[0]) };

enum verdict { UNKNOWN, MISSED, PASSED, AIM_MET };
static const char *const verdicts[] = { "n/a", "MISS", "pass", "aim" };

static const char *
goal_title(const struct goal *goal, char text[96])
{
	if (goal->workload == NULL)
		(void)snprintf(text, 96, "instructions of pair-64");
	else if (goal->peer == NULL && goal->against == NULL)
		(void)snprintf(text, 96, "%s", goal->workload);
	else
		(void)snprintf(text, 96, "%s / %s", goal->workload,
		    goal->peer != NULL ? goal->peer : goal->against);
	return text;
}

static enum verdict
judge(const struct results *results, const struct goal *goal, double *value)
{
	const char *ours = peers[OURS]->name;
	struct spread spread;
	const struct cell *cell;

	if (goal->workload == NULL) {
		*value = results->instructions;
		if (*value <= 0)
			return UNKNOWN;
		return *value <= goal->limit ? PASSED : MISSED;
	}
	cell = cell_named(results, goal->workload, ours);
	if (goal->peer == NULL && goal->against == NULL) {
		if (!spread_of(cell, &spread))
			return UNKNOWN;
		*value = spread.median;
		return *value >= goal->aim ? AIM_MET :
		    *value >= goal->limit ? PASSED : MISSED;
	}
	if (!ratios_of(cell, goal->peer != NULL ?
	    cell_named(results, goal->workload, goal->peer) :
	    cell_named(results, goal->against, ours), &spread))
		return UNKNOWN;
	*value = spread.median;
	return *value > goal->limit ? MISSED :
	    goal->aim > 0 && *value <= goal->aim ? AIM_MET : PASSED;
}

unsigned
report_goals(FILE *out, const struct results *results)
{
	unsigned missed = 0;

	(void)fprintf(out, "\n%-28s %10s %10s %10s\n", "goal", "limit", "aim",
	    "is");
	(void)fprintf(out, "(at most the limit, pass, or better the aim; of fill,"
	    " at least; n/a: not measured)\n");
	for (size_t i = 0; i < GOALS; i++) {
		char title[96], limit[32], aim[32] = "", is[32] = "";
		double value = 0;
		enum verdict verdict = judge(results, &goals[i], &value);

		if (goals[i].aim > 0)
			(void)ratio(goals[i].aim, aim);
		if (verdict != UNKNOWN)
			(void)ratio(value, is);
		if (verdict == MISSED)
			missed++;
		(void)fprintf(out, "%-28s %10s %10s %10s  %s\n",
		    goal_title(&goals[i], title), ratio(goals[i].limit, limit),
		    aim, is, verdicts[verdict]);
	}
	(void)fprintf(out, "%u missed\n", missed);
	return missed;
}

/* --- JSON ------------------------------------------------------------------- */

static void
json_string(FILE *out, const char *text)
{
	(void)fputc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			(void)fputc('\\', out);
		if ((unsigned char)*text >= ' ')
			(void)fputc(*text, out);
	}
	(void)fputc('"', out);
}

static void
json_cell(FILE *out, const struct results *results, size_t w, size_t p)
{
	const struct cell *cell = &results->cells[w][p];
	struct spread spread;

	(void)fprintf(out, "{\"peer\": \"%s\", ", peers[p]->name);
	if (!spread_of(cell, &spread)) {
		(void)fprintf(out, "\"reason\": ");
		json_string(out, cell->reason);
		(void)fputc('}', out);
		return;
	}
	(void)fprintf(out, "\"median\": %.6g, \"min\": %.6g, "
	    "\"max\": %.6g, ", spread.median, spread.min, spread.max);
	if (ratios_of(&results->cells[w][OURS], cell, &spread))
		(void)fprintf(out, "\"ratio\": %.6g, ", spread.median);
	(void)fprintf(out, "\"rounds\": [");
	for (unsigned r = 0; r < cell->rounds; r++)
		(void)fprintf(out, "%s%.6g", r == 0 ? "" : ", ",
		    cell->value[r]);
	(void)fprintf(out, "]}");
}

static void
json_goal(FILE *out, const struct results *results, const struct goal *goal)
{
	char title[96];
	double value = 0;
	enum verdict verdict = judge(results, goal, &value);

	(void)fprintf(out, "{\"goal\": ");
	json_string(out, goal_title(goal, title));
	(void)fprintf(out, ", \"limit\": %.6g", goal->limit);
	if (goal->aim > 0)
		(void)fprintf(out, ", \"aim\": %.6g", goal->aim);
	if (verdict != UNKNOWN)
		(void)fprintf(out, ", \"is\": %.6g", value);
	(void)fprintf(out, ", \"verdict\": \"%s\"}", verdicts[verdict]);
}

void
report_json(FILE *out, const struct results *results)
{
	const char *comma = "";
	char text[512];

	machine(text);
	(void)fprintf(out, "{\n\"version\": \"%s\",\n\"machine\": ",
	    SECMALLOC_VERSION_STRING);
	json_string(out, text);
	(void)fprintf(out, ",\n\"locked_by\": ");
	json_string(out, results->locked_by);
	(void)fprintf(out, ",\n\"rounds\": %u,\n\"quick\": %s,\n"
	    "\"workloads\": [", results->rounds,
	    results->quick ? "true" : "false");
	for (size_t w = 0; w < WORKLOADS; w++) {
		if (!results->wanted[w])
			continue;
		(void)fprintf(out, "%s\n{\"workload\": \"%s\", "
		    "\"unit\": \"%s\", \"peers\": [", comma,
		    workloads[w].name, workloads[w].kind == FILL ?
		    "bytes per locked byte" : "ns");
		comma = "";
		for (size_t p = 0; p < PEERS; p++) {
			if (!results->selected[p])
				continue;
			(void)fprintf(out, "%s\n\t", comma);
			json_cell(out, results, w, p);
			comma = ",";
		}
		(void)fprintf(out, "]}");
		comma = ",";
	}
	(void)fprintf(out, "],\n\"instructions\": ");
	if (results->instructions > 0)
		(void)fprintf(out, "%.6g", results->instructions);
	else
		(void)fprintf(out, "null");
	(void)fprintf(out, ",\n\"goals\": [");
	for (size_t i = 0; i < GOALS; i++) {
		(void)fprintf(out, "%s\n", i == 0 ? "" : ",");
		json_goal(out, results, &goals[i]);
	}
	(void)fprintf(out, "]\n}\n");
}
