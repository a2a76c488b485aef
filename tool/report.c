/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * report.c: words for people and for programs; must not know what they are of.
 */
#include "config.h"

#include <err.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

char *
text_make(const char *format, ...)
{
	va_list ap;
	char *text;
	int length;

	va_start(ap, format);
	length = vasprintf(&text, format, ap);
	va_end(ap);
	if (length == -1)
		errx(71, "out of memory");
	return text;
}

char *
text_quote(const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@%:,";
	char *quoted, *to;

	if (*path != '\0' && *path != '-' &&
	    path[strspn(path, plain)] == '\0')
		return text_make("%s", path);
	/* Each quote becomes four characters, and there are two around. */
	if ((quoted = malloc(4 * strlen(path) + 3)) == NULL)
		errx(71, "out of memory");
	to = quoted;
	*to++ = '\'';
	for (; *path != '\0'; path++) {
		if (*path == '\'')
			to = stpcpy(to, "'\\''");
		else
			*to++ = *path;
	}
	(void)stpcpy(to, "'");
	return quoted;
}

char *
text_size(uint64_t size)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	uint64_t unit = 1024;
	size_t i = 0;

	if (size < unit)
		return text_make("%" PRIu64 " bytes", size);
	while (i + 1 < sizeof(units) / sizeof(units[0]) &&
	    size / unit >= 1024) {
		unit *= 1024;
		i++;
	}
	return size % unit == 0 ?
	    text_make("%" PRIu64 " %s", size / unit, units[i]) :
	    text_make("%" PRIu64 ".%" PRIu64 " %s", size / unit,
	    size % unit * 10 / unit, units[i]);
}

/* The bytes of a well-formed character of several, by UTF-8; 0: it is none. */
static size_t
character_length(const unsigned char *at)
{
	size_t length = at[0] >= 0xc2 && at[0] < 0xe0 ? 2 :
	    at[0] >= 0xe0 && at[0] < 0xf0 ? 3 :
	    at[0] >= 0xf0 && at[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	/* What a shorter form has, half a pair, and what is out of range. */
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
	    (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	return length;
}

void
json_string(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t length;

	if (text == NULL) {
		(void)printf("null");
		return;
	}
	(void)putchar('"');
	while (*at != '\0') {
		if (*at == '"' || *at == '\\')
			(void)printf("\\%c", *at++);
		else if (*at < ' ' || *at == 0x7f)
			(void)printf("\\u%04x", *at++);
		else if (*at < 0x80)
			(void)putchar(*at++);
		else if ((length = character_length(at)) != 0) {
			(void)fwrite(at, 1, length, stdout);
			at += length;
		} else {
			(void)putchar('?');
			at++;
		}
	}
	(void)putchar('"');
}
