/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A credentials or configuration file of the AWS tools of any bytes. Everything handed
 * out must be part of the text and of one line; and what was understood, written out
 * anew, must be understood as the same.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/services/s3/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct walk {
	const char *text, *end;
	FILE *out;
};

static void check_slice(const struct walk *w, struct s3_ini_slice slice)
{
	if (slice.len == 0)
		return;
	if (slice.at < w->text || slice.at + slice.len > w->end ||
	    memchr(slice.at, '\n', slice.len))
		abort();
}

static void write_item(void *arg, const struct s3_ini_item *item)
{
	struct walk *w = arg;

	check_slice(w, item->section);
	check_slice(w, item->name);
	check_slice(w, item->value);
	if (item->section.len == 0 || (item->name.at && item->name.len == 0))
		abort();
	s3_ini_is_profile(item->section, "default", true);
	s3_ini_is_profile(item->section, "dev", true);
	s3_ini_is_profile(item->section, "dev", false);
	if (item->name.at)
		fprintf(w->out, "%.*s=%.*s\n", (int)item->name.len, item->name.at,
			(int)item->value.len, item->value.at);
	else
		fprintf(w->out, "[%.*s]\n", (int)item->section.len, item->section.at);
}

/* All items, one a line; malloc()ed. */
static char *rewrite(const char *text, size_t len, size_t *out_len)
{
	struct walk w = { .text = text, .end = text + len };
	char *out = NULL;

	w.out = open_memstream(&out, out_len);
	if (!w.out)
		abort();
	s3_ini_parse(text, len, write_item, &w);
	fclose(w.out);
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t once_len, twice_len;
	char *once, *twice;

	/* %.*s ends at a NUL. */
	if (memchr(data, '\0', size)) {
		free(rewrite((const char *)data, size, &once_len));
		return 0;
	}
	once = rewrite((const char *)data, size, &once_len);
	twice = rewrite(once, once_len, &twice_len);
	if (once_len != twice_len || memcmp(once, twice, once_len) != 0)
		abort();
	free(once);
	free(twice);
	return 0;
}
