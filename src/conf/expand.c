/* SPDX-License-Identifier: Apache-2.0 */
/* "${env:NAME}" in the strings of a file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "conf/load_priv.h"

static const char intro[] = "${env:";

/* Writes the variable whose reference @at begins; in *@end what is behind it. */
static struct err *expand_one(const char *at, FILE *out, const char **end)
{
	CLEANUP_FREE char *name = NULL;
	const char *close, *value;

	if (strncmp(at, intro, sizeof(intro) - 1) != 0)
		return err_new("expected ${env:NAME}, or $${ for ${ itself");
	at += sizeof(intro) - 1;
	close = strchr(at, '}');
	if (!close || close == at)
		return err_new("expected a name and } behind ${env:");
	name = strndup(at, (size_t)(close - at));
	if (!name)
		return err_new("out of memory");
	value = getenv(name);
	if (!value)
		return err_new("the environment variable %s is not set", name);
	fputs(value, out);
	*end = close + 1;
	return NULL;
}

/* @text with everything put in, to *@out. */
static struct err *expand_text(const char *text, char **out, bool *variable)
{
	size_t len;
	FILE *f = open_memstream(out, &len);
	struct err *e = NULL;

	if (!f)
		return err_new("out of memory");
	while (*text && !e) {
		if (strncmp(text, "$${", 3) == 0) {
			fputs("${", f);
			text += 3;
		} else if (strncmp(text, "${", 2) == 0) {
			*variable = true;
			e = expand_one(text, f, &text);
		} else {
			putc(*text++, f);
		}
	}
	if (fclose(f) != 0 && !e)
		e = err_new("out of memory");
	return e;
}

struct err *conf_expand(struct toml_node *node, bool *changed)
{
	struct err *e = NULL;

	for (struct toml_node *item = node->child; item && !e; item = item->next)
		e = conf_expand(item, changed);
	if (!e && node->type == TOML_STRING && strstr(node->text, "${")) {
		char *text = NULL;

		e = expand_text(node->text, &text, changed);
		if (e) {
			free(text);
			return e;
		}
		free(node->text);
		node->text = text;
	}
	return e;
}
