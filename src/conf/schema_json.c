/* SPDX-License-Identifier: Apache-2.0 */
/* The tables as a JSON schema, draft-07, for editors and for who writes files by program. */
#include <string.h>

#include "conf/load_priv.h"
#include "conf/units.h"
#include "conf/value.h"

/* What any string may be instead: the environment knows it. */
#define VARIABLE "{ \"type\": \"string\", \"pattern\": \"\\\\$\\\\{env:[^}]+\\\\}\" }"

#define SIZE_PATTERN "^[0-9]+(B|[KMGT](iB)?|[kKMGT]B)?$"
#define DURATION_PATTERN "^(0|([0-9]+(\\\\.[0-9]+)?(ns|us|ms|s|m|h|d))+)$"

static void json_string(const char *text, FILE *out)
{
	putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			putc(c, out);
	}
	putc('"', out);
}

static void json_words(const struct conf_key *key, FILE *out)
{
	fputs("{ \"enum\": [", out);
	for (size_t i = 0; key->words[i]; i++) {
		fputs(i > 0 ? ", " : "", out);
		json_string(key->words[i], out);
	}
	fputs("] }", out);
}

static void json_text(const struct conf_key *key, FILE *out)
{
	fprintf(out, "{ \"type\": \"string\", \"minLength\": %llu", (unsigned long long)key->min);
	if (key->max)
		fprintf(out, ", \"maxLength\": %llu", (unsigned long long)key->max);
	fputs(" }", out);
}

static void json_integer(const struct conf_key *key, FILE *out)
{
	/* TOML's integers end at INT64_MAX. */
	fprintf(out, "{ \"type\": \"integer\", \"minimum\": %llu, \"maximum\": %llu }",
		(unsigned long long)key->min,
		(unsigned long long)MIN(key->max, (uint64_t)INT64_MAX));
}

/* The schemas of which a value has to fit one, separated by commas. */
static void json_alternatives(const struct conf_key *key, FILE *out)
{
	switch (key->type) {
	case CONF_BOOL:
		fputs("{ \"type\": \"boolean\" }", out);
		break;
	case CONF_INTEGER:
		json_integer(key, out);
		break;
	case CONF_SIZE:
		json_integer(key, out);
		fputs(", { \"type\": \"string\", \"pattern\": \"" SIZE_PATTERN "\" }, " VARIABLE,
		      out);
		break;
	case CONF_SIZES:
		fputs("{ \"type\": \"array\", \"minItems\": 1, \"items\": { \"type\": "
		      "\"string\" } }",
		      out);
		break;
	case CONF_MODE:
		fputs("{ \"type\": \"string\", \"pattern\": \"^[0-7]{3,5}$\" }, " VARIABLE, out);
		break;
	case CONF_DURATION:
		fputs("{ \"type\": \"string\", \"pattern\": \"" DURATION_PATTERN "\" }, " VARIABLE,
		      out);
		break;
	case CONF_STRING:
	case CONF_PATH:
		json_text(key, out);
		fputs(", " VARIABLE, out);
		break;
	case CONF_PATHS:
		json_text(key, out);
		fputs(", { \"type\": \"array\", \"minItems\": 1, \"items\": ", out);
		json_text(key, out);
		fputs(" }, " VARIABLE, out);
		break;
	case CONF_CHOICE:
		json_words(key, out);
		fputs(", " VARIABLE, out);
		break;
	case CONF_FLAGS:
		fputs("{ \"type\": \"array\", \"items\": ", out);
		json_words(key, out);
		fputs(" }", out);
		break;
	}
}

/* One property; @indent tabs in front. */
static void json_key(const struct conf_key *key, int indent, FILE *out)
{
	fprintf(out, "%.*s", indent, "\t\t\t\t\t\t\t\t\t\t");
	json_string(key->name, out);
	fputs(": { \"description\": ", out);
	json_string(key->doc, out);
	fputs(", \"anyOf\": [", out);
	json_alternatives(key, out);
	fputs("] }", out);
}

/* Whether @key of @table may stand in a section of @form. */
static bool json_allows(enum conf_form form, const struct conf_key *key)
{
	return !(key->flags & CONF_COMMAND) && conf_form_has(form, key->scope);
}

static void json_keys(const struct conf_table *table, enum conf_form form, int indent,
		      const char **comma, FILE *out)
{
	for (size_t k = 0; k < table->key_count; k++) {
		if (!json_allows(form, &table->key[k]))
			continue;
		fputs(*comma, out);
		json_key(&table->key[k], indent, out);
		*comma = ",\n";
	}
}

static void json_table(const struct conf_table *table, enum conf_form form, int indent,
		       const char **comma, FILE *out)
{
	static const char tabs[] = "\t\t\t\t\t\t\t\t\t\t";
	const char *inner = "\n";
	bool any = false;

	for (size_t k = 0; k < table->key_count; k++)
		any |= json_allows(form, &table->key[k]);
	if (!any)
		return;
	fprintf(out, "%s%.*s", *comma, indent, tabs);
	json_string(table->name, out);
	fputs(": {\n", out);
	fprintf(out, "%.*s\"description\": ", indent + 1, tabs);
	json_string(table->doc, out);
	fprintf(out, ",\n%.*s\"type\": \"object\", \"additionalProperties\": false,\n", indent + 1,
		tabs);
	fprintf(out, "%.*s\"properties\": {", indent + 1, tabs);
	json_keys(table, form, indent + 2, &inner, out);
	fprintf(out, "\n%.*s}\n%.*s}", indent + 1, tabs, indent, tabs);
	*comma = ",\n";
}

/* The properties of a section, without the sections in it. */
static void json_section(const struct conf_table *tables, size_t count, enum conf_form form,
			 int indent, const char **comma, FILE *out)
{
	for (size_t t = 0; t < count; t++) {
		if (tables[t].form == form)
			json_keys(&tables[t], form, indent, comma, out);
		else if (tables[t].form == CONF_FORM_TABLE)
			json_table(&tables[t], form, indent, comma, out);
	}
}

#define ARRAY_OF_OBJECTS                                                                           \
	"\"type\": \"array\", \"items\": { \"type\": \"object\", "                                 \
	"\"additionalProperties\": false, \"properties\": {"

void conf_print_schema(const struct conf_table *tables, size_t count, FILE *out)
{
	const char *comma = "\n";

	fputs("{\n"
	      "\t\"$schema\": \"http://json-schema.org/draft-07/schema#\",\n"
	      "\t\"title\": \"The configuration of ovfs\",\n"
	      "\t\"type\": \"object\", \"additionalProperties\": false,\n"
	      "\t\"properties\": {",
	      out);
	json_section(tables, count, CONF_FORM_ROOT, 2, &comma, out);
	fprintf(out, "%s\t\t\"mount\": { " ARRAY_OF_OBJECTS, comma);
	comma = "\n";
	json_section(tables, count, CONF_FORM_MOUNT, 3, &comma, out);
	fprintf(out, "%s\t\t\t\"directory\": { " ARRAY_OF_OBJECTS, comma);
	comma = "\n";
	json_section(tables, count, CONF_FORM_DIRECTORY, 4, &comma, out);
	fputs("\n\t\t\t} } }\n\t\t} } }\n\t}\n}\n", out);
}
