/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chart.c: a few of the workloads as a picture that can be read on light and on
 * dark paper; it brings its own paper, for it is not told of what is around it.
 */
#include "config.h"

#include <string.h>

#include "bench.h"
#include "secmalloc.h"

/* Pixels. */
enum {
	WIDTH = 860,
	MARGIN = 24,
	HEAD = 92,
	GAP = 28,              /* between panels */
	ROW = 19,
	PANEL_HEAD = 30,
	NAME = 88,             /* before the bars */
	VALUE = 64,            /* behind them */
	FOOT = 40,
	COLUMNS = 2,
	/* All panels have one scale, 1 ns to 1 ms, so that they compare. */
	DECADES = 6
};

static const struct panel {
	const char *workload;
	const char *title;
} panels[] = {
	{ "pair-64", "Allocate and free 64 bytes" },
	{ "pair-4k", "Allocate and free 4 KiB" },
	{ "set-10k", "Replace one of 10 000 live objects" },
	{ "threads-10k", "The same by each of two threads" },
	{ "ring", "One thread allocates, another frees" },
	{ "double", "Double an object, up to 64 KiB" },
};
enum { PANELS = sizeof(panels) / sizeof(panels[0]) };

static const char style[] =
    "<style>\n"
    "text { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, "
    "Arial, sans-serif; fill: #1f2328 }\n"
    ".paper { fill: #ffffff; stroke: #d1d9e0 }\n"
    ".title { font-size: 17px; font-weight: 600 }\n"
    ".panel { font-size: 13px; font-weight: 600 }\n"
    ".name { text-anchor: end }\n"
    ".muted { fill: #59636e }\n"
    ".tick { fill: #59636e; font-size: 10px; text-anchor: middle }\n"
    ".grid { stroke: #e4e8ec }\n"
    ".bar-ours { fill: #0969da }\n"
    ".bar-locks { fill: #848d97 }\n"
    ".bar-plain { fill: #c9d1d9 }\n"
    ".is-ours { font-weight: 600 }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "text { fill: #e6edf3 }\n"
    ".paper { fill: #0d1117; stroke: #30363d }\n"
    ".muted, .tick { fill: #9198a1 }\n"
    ".grid { stroke: #21262d }\n"
    ".bar-ours { fill: #4493f8 }\n"
    ".bar-locks { fill: #7d8590 }\n"
    ".bar-plain { fill: #3d444d }\n"
    "}\n"
    "</style>\n";

static void
escaped(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '&')
			(void)fputs("&amp;", out);
		else if (*text == '<')
			(void)fputs("&lt;", out);
		else
			(void)fputc(*text, out);
	}
}

/* log10() of a number from 1 up, well enough for a pixel, without libm. */
static double
decades(double value)
{
	double result = 0, step = 0.5;

	if (value < 1)
		return 0;
	while (value >= 10) {
		value /= 10;
		result++;
	}
	/* A square doubles the logarithm: its bits come out one by one. */
	for (int i = 0; i < 16; i++) {
		value *= value;
		if (value >= 10) {
			value /= 10;
			result += step;
		}
		step /= 2;
	}
	return result;
}

static void
time_of(double ns, char text[32])
{
	double value = ns < 1000 ? ns : ns < 1e6 ? ns / 1000 : ns / 1e6;
	const char *unit = ns < 1000 ? "ns" : ns < 1e6 ? "µs" : "ms";

	(void)snprintf(text, 32, "%.*f %s", value < 10 ? 1 : 0, value, unit);
}

static const char *
kind_of(size_t p)
{
	return p == OURS ? "ours" : peers[p]->locks ? "locks" : "plain";
}

static void
draw_row(FILE *out, const struct cell *cell, size_t p, int x, int y, int bars)
{
	struct spread spread;
	char text[32];
	double length;

	(void)fprintf(out, "<text class=\"name is-%s\" x=\"%d\" y=\"%d\">%s"
	    "</text>\n", kind_of(p), x + NAME - 8, y + 14, peers[p]->title);
	if (!spread_of(cell, &spread)) {
		(void)fprintf(out, "<text class=\"muted\" x=\"%d\" y=\"%d\">"
		    "n/a</text>\n", x + NAME + 6, y + 14);
		return;
	}
	time_of(spread.median, text);
	length = decades(spread.median) * bars / DECADES;
	(void)fprintf(out, "<rect class=\"bar-%s\" x=\"%d\" y=\"%d\" "
	    "width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n"
	    "<text class=\"is-%s\" x=\"%.1f\" y=\"%d\">%s</text>\n",
	    kind_of(p), x + NAME, y + 3, length, ROW - 6, kind_of(p),
	    x + NAME + length + 6, y + 14, text);
}

static void
draw_panel(FILE *out, const struct results *results, const struct panel *panel,
    int x, int y, int width, int rows)
{
	static const char *const ticks[DECADES + 1] = {
		"1 ns", "", "", "1 µs", "", "", "1 ms"
	};
	int bars = width - NAME - VALUE, top = y + PANEL_HEAD;
	int bottom = top + rows * ROW;

	(void)fprintf(out, "<text class=\"panel\" x=\"%d\" y=\"%d\">%s"
	    "</text>\n", x + NAME, y + 18, panel->title);
	for (int i = 0; i <= DECADES; i++) {
		int at = x + NAME + i * bars / DECADES;

		(void)fprintf(out, "<path class=\"grid\" d=\"M%d.5 %dV%d\"/>\n",
		    at, top, bottom + 2);
		if (ticks[i][0] != '\0')
			(void)fprintf(out, "<text class=\"tick\" x=\"%d\" "
			    "y=\"%d\">%s</text>\n", at, bottom + 14, ticks[i]);
	}
	for (size_t p = 0; p < PEERS; p++) {
		if (!results->selected[p])
			continue;
		draw_row(out, cell_named(results, panel->workload,
		    peers[p]->name), p, x, top, bars);
		top += ROW;
	}
}

static void
draw_legend(FILE *out, int y)
{
	static const struct {
		const char *kind;
		const char *text;
		int width;
	} entries[] = {
		{ "ours", "locked, wiped and checked", 190 },
		{ "locks", "other heaps for secrets", 170 },
		{ "plain", "not locked", 0 },
	};
	int x = MARGIN;

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		(void)fprintf(out, "<rect class=\"bar-%s\" x=\"%d\" y=\"%d\" "
		    "width=\"12\" height=\"12\" rx=\"2\"/>\n"
		    "<text x=\"%d\" y=\"%d\">%s</text>\n", entries[i].kind, x,
		    y - 10, x + 18, y, entries[i].text);
		x += entries[i].width;
	}
}

void
chart(FILE *out, const struct results *results)
{
	int width = (WIDTH - 2 * MARGIN - GAP) / COLUMNS, rows = 0, drawn = 0;
	int count = 0, each, height;
	char text[512];

	for (size_t p = 0; p < PEERS; p++)
		rows += results->selected[p];
	for (size_t i = 0; i < PANELS; i++)
		count += wanted(results, panels[i].workload);
	each = PANEL_HEAD + rows * ROW + GAP;
	height = HEAD + (count + COLUMNS - 1) / COLUMNS * each + FOOT;
	(void)fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" "
	    "width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n"
	    "<title>Time of an operation, secmalloc %s beside others</title>\n"
	    "%s<rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"%d\" "
	    "height=\"%d\" rx=\"8\"/>\n", WIDTH, height, WIDTH, height,
	    SECMALLOC_VERSION_STRING, style, WIDTH - 1, height - 1);
	(void)fprintf(out, "<text class=\"title\" x=\"%d\" y=\"36\">Time of an "
	    "operation, on a logarithmic scale: shorter is better</text>\n", MARGIN);
	draw_legend(out, 64);
	for (size_t i = 0; i < PANELS; i++) {
		if (!wanted(results, panels[i].workload))
			continue;
		draw_panel(out, results, &panels[i],
		    MARGIN + drawn % COLUMNS * (width + GAP),
		    HEAD + drawn / COLUMNS * each, width, rows);
		drawn++;
	}
	machine(text);
	(void)fprintf(out, "<text class=\"muted\" x=\"%d\" y=\"%d\">"
	    "secmalloc %s, median of %u round%s on ", MARGIN, height - 18,
	    SECMALLOC_VERSION_STRING, results->rounds,
	    results->rounds == 1 ? "" : "s");
	escaped(out, text);
	(void)fprintf(out, "</text>\n</svg>\n");
}
