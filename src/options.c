/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two passes: the first one finds the options, on the command line and inside
 * -o, the second applies them, because the command line overrides the file
 * that it names itself. What each option does is in options_table.c.
 */
#include "options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "conf/schema.h"
#include "conf/suggest.h"
#include "options_table.h"

#define PROG "ovfs"

static void remember(struct parse *p, const struct option_def *def, char *value, bool inside)
{
	if (p->count == OPTIONS_MAX) {
		conf_load_problem_option(p->load, def->name, "too many options");
		free(value);
		return;
	}
	p->found[p->count++] = (struct option_found){ def, value, inside };
	if (def->letter == LETTER_CONFIG_FILE)
		p->config_file = value;
	else if (def->letter && (!p->action || p->action == ACTION_CHECK))
		p->action = def->letter;
}

static void unknown(struct parse *p, const char *prefix, const char *word, unsigned place)
{
	char name[64], shown[80];
	struct suggest nearest = { .word = name };

	snprintf(name, sizeof(name), "%.*s", (int)MIN(strcspn(word, "="), sizeof(name) - 1), word);
	snprintf(shown, sizeof(shown), "%s%s", prefix, name);
	for (size_t i = 0; i < option_def_count; i++) {
		if (option_defs[i].place & place)
			suggest_offer(&nearest, option_defs[i].name);
	}
	if (nearest.best)
		conf_load_problem_option(p->load, shown, "unknown option, did you mean %s%s?",
					 prefix, nearest.best);
	else
		conf_load_problem_option(p->load, shown, "unknown option, see --help");
}

/* One of the comma-separated options of -o. */
static void parse_inside(struct parse *p, const char *word)
{
	size_t len = strcspn(word, "=");
	const char *value = word[len] ? word + len + 1 : NULL;
	char shown[80];

	for (size_t i = 0; i < option_def_count; i++) {
		const struct option_def *def = &option_defs[i];

		if (!(def->place & INSIDE) || strlen(def->name) != len ||
		    memcmp(def->name, word, len) != 0)
			continue;
		snprintf(shown, sizeof(shown), "-o %s", def->name);
		if (def->value == VALUE_REQUIRED && !value)
			conf_load_problem_option(p->load, shown, "expected a value after =");
		else if (def->value == VALUE_NONE && value)
			conf_load_problem_option(p->load, shown, "takes no value");
		else
			remember(p, def, value ? strdup(value) : NULL, true);
		return;
	}
	unknown(p, "-o ", word, INSIDE);
}

/* Splits -o's argument. A comma inside a value is written twice (libvirt) or
 * behind a backslash (the C virtiofsd). */
static void parse_compat(struct parse *p, const char *text)
{
	char *word = calloc(1, strlen(text) + 1);
	size_t n = 0;

	if (!word)
		return;
	for (;; text++) {
		if ((text[0] == ',' && text[1] == ',') || (text[0] == '\\' && text[1])) {
			word[n++] = *++text;
			continue;
		}
		if (*text && *text != ',') {
			word[n++] = *text;
			continue;
		}
		word[n] = '\0';
		if (n > 0)
			parse_inside(p, word);
		n = 0;
		if (!*text)
			break;
	}
	free(word);
}

/* getopt_long()'s answer to what it does not know. */
static void parse_wrong(struct parse *p, int c, char **argv)
{
	const char *word = argv[optind - 1];
	char shown[80];

	if (optopt == 0) {
		unknown(p, "--", word + strspn(word, "-"), LINE);
		return;
	}
	if (optopt < 256)
		snprintf(shown, sizeof(shown), "-%c", optopt);
	else
		snprintf(shown, sizeof(shown), "--%s", option_defs[optopt - 256].name);
	if (c == ':')
		conf_load_problem_option(p->load, shown, "expected a value");
	else if (optopt < 256)
		conf_load_problem_option(p->load, shown, "unknown option, see --help");
	else
		conf_load_problem_option(p->load, shown, "takes no value");
}

static void parse_line(struct parse *p, int argc, char **argv)
{
	struct option *names = calloc(option_def_count + 1, sizeof(*names));
	size_t n = 0;
	int c;

	if (!names)
		return;
	for (size_t i = 0; i < option_def_count; i++) {
		static const int has_arg[] = { no_argument, required_argument, optional_argument };

		if (option_defs[i].place & LINE)
			names[n++] =
				(struct option){ option_defs[i].name, has_arg[option_defs[i].value],
						 NULL, 256 + (int)i };
	}
	optind = 0; /* glibc: start anew */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":hVdfo:", names, NULL)) != -1) {
		if (c == 'o')
			parse_compat(p, optarg);
		else if (c == 'd')
			remember(p, &option_debug, NULL, false);
		else if (c == 'h' || c == 'V')
			p->action = (char)c;
		else if (c == '?' || c == ':')
			parse_wrong(p, c, argv);
		else if (c != 'f') /* -f, foreground: always */
			remember(p, &option_defs[c - 256], optarg ? strdup(optarg) : NULL, false);
	}
	free(names);
	for (; optind < argc; optind++)
		conf_load_problem_option(p->load, argv[optind], "not an option, see --help");
}

static void apply_found(struct parse *p)
{
	char origin[80];

	p->origin = origin;
	for (size_t i = 0; i < p->count; i++) {
		const struct option_found *found = &p->found[i];

		snprintf(origin, sizeof(origin), "%s%s",
			 found->inside	       ? "-o "
			 : found->def->name[1] ? "--"
					       : "-",
			 found->def->name);
		found->def->apply(p, found->def, found->value);
	}
	options_apply_locks(p);
}

static void print_help(FILE *out)
{
	fputs("Usage: " PROG " --config-file=FILE [OPTION]...\n"
	      "       " PROG " --shared-dir=DIR --socket-path=PATH [OPTION]...\n"
	      "Serve a directory or a bucket to virtual machines as a virtio-fs device.\n\n",
	      out);
	for (size_t i = 0; i < option_def_count; i++) {
		const struct option_def *def = &option_defs[i];
		char left[64];

		if (!def->help)
			continue;
		snprintf(left, sizeof(left), "--%s%s%s%s", def->name,
			 def->value == VALUE_OPTIONAL ? "[" : "", def->value_name ? "=" : "",
			 def->value_name ? def->value_name : "");
		if (def->value == VALUE_OPTIONAL)
			strcat(left, "]");
		fprintf(out, "  %-28s %s\n", left, def->help);
	}
	fputs("\nThe command line overrides the file. virtiofsd's options, -o included, are taken\n"
	      "too; what has no effect here is named in the log.\n",
	      out);
}

static int run_action(struct parse *p, FILE *out)
{
	switch (p->action) {
	case ACTION_HELP:
		print_help(out);
		break;
	case ACTION_VERSION:
		fputs(PROG " " OVFS_VERSION "\n", out);
		break;
	case ACTION_CAPABILITIES:
		/* docs/interop/vhost-user.json of QEMU. separate-options: virtiofsd's
		 * name for "knows --shared-dir and the like, needs no -o". */
		fputs("{\n  \"type\": \"fs\",\n  \"features\": [\n    \"separate-options\"\n  "
		      "]\n}\n",
		      out);
		break;
	case ACTION_REFERENCE:
		ovfs_config_print_reference(out);
		break;
	case ACTION_SCHEMA:
		ovfs_config_print_schema(out);
		break;
	default:
		return OPTIONS_RUN;
	}
	return 0;
}

static int report(struct conf_load *load, FILE *err)
{
	const struct conf_problem *problem;
	size_t count;

	problem = conf_load_problems(load, &count);
	for (size_t i = 0; i < count; i++)
		fprintf(err, PROG ": %s\n", problem[i].text);
	return count > 0 ? OPTIONS_EXIT_USAGE : OPTIONS_RUN;
}

/* --check-config shows them, the daemon logs them later. */
static void keep_warnings(struct parse *p)
{
	struct options *options = p->options;
	const char *const *text;
	size_t count;

	text = conf_load_warnings(p->load, &count);
	options->warning = calloc(count + 1, sizeof(*options->warning));
	for (size_t i = 0; i < count; i++) {
		char *copy = options->warning ? strdup(text[i]) : NULL;

		if (copy)
			options->warning[options->warning_count++] = copy;
	}
}

/* Everything that is asked for is in p->options afterwards, or in the problems. */
static void load_config(struct parse *p)
{
	struct options *options = p->options;
	bool known = true;

	if (p->config_file) {
		options->config_file = strdup(p->config_file);
		known = conf_load_file(p->load, p->config_file);
	}
	apply_found(p);
	if (known) /* else it would complain of keys that the file may well have */
		ovfs_config_check(p->load, &options->config);
	keep_warnings(p);
}

static int load_all(struct parse *p, FILE *out, FILE *err)
{
	struct options *options = p->options;
	int status;

	parse_line(p, options->argc, options->argv);
	status = run_action(p, out);
	if (status != OPTIONS_RUN)
		return status;
	load_config(p);
	for (size_t i = 0; p->action == ACTION_CHECK && i < options->warning_count; i++)
		fprintf(err, PROG ": warning: %s\n", options->warning[i]);
	status = report(p->load, err);
	if (status != OPTIONS_RUN || p->action != ACTION_CHECK)
		return status;
	ovfs_config_print(&options->config, out);
	return 0;
}

/* @files become the options'. NULL for lack of memory. */
static struct parse *parse_new(struct options *options, int argc, char **argv,
			       struct conf_files *files)
{
	struct parse *p = calloc(1, sizeof(*p));

	*options = (struct options){ .argc = argc, .argv = argv, .files = files };
	if (!p || !files) {
		free(p);
		return NULL;
	}
	p->options = options;
	p->load = ovfs_config_load_new(files);
	if (!p->load) {
		free(p);
		return NULL;
	}
	return p;
}

static void parse_free(struct parse *p)
{
	for (size_t i = 0; p && i < p->count; i++)
		free(p->found[i].value);
	if (p)
		conf_load_free(p->load);
	free(p);
}

int options_load(struct options *options, int argc, char **argv, FILE *out, FILE *err)
{
	struct parse *p = parse_new(options, argc, argv, conf_files_new());
	int status = OPTIONS_EXIT_USAGE;

	if (p)
		status = load_all(p, out, err);
	else
		fputs(PROG ": out of memory\n", err);
	parse_free(p);
	if (status != OPTIONS_RUN)
		options_free(options);
	return status;
}

struct err *options_reload(struct options *fresh, const struct options *old,
			   struct conf_files *files)
{
	struct parse *p = parse_new(fresh, old->argc, old->argv, files);
	const struct conf_problem *problem;
	struct err *e = NULL;
	size_t count;

	if (!p)
		return err_new("out of memory");
	parse_line(p, old->argc, old->argv);
	load_config(p);
	problem = conf_load_problems(p->load, &count);
	if (count == 1)
		e = err_new("%s", problem->text);
	else if (count > 1)
		e = err_new("%s (and %zu more problems: see --check-config)", problem->text,
			    count - 1);
	parse_free(p);
	if (e) {
		fresh->files = NULL;
		options_free(fresh);
		fresh->files = files;
	}
	return e;
}

void options_log_notes(const struct options *options)
{
	for (size_t i = 0; i < options->note_count; i++)
		log_warn("option_ignored", "option=\"%s\" why=\"%s\"", options->note[i].option,
			 options->note[i].why);
}

void options_log_warnings(const struct options *options)
{
	for (size_t i = 0; i < options->warning_count; i++)
		log_warn("configuration", "warning=\"%s\"", options->warning[i]);
}

void options_free(struct options *options)
{
	ovfs_config_free(&options->config);
	for (size_t i = 0; i < options->note_count; i++)
		free(options->note[i].option);
	free(options->note);
	for (size_t i = 0; i < options->warning_count; i++)
		free(options->warning[i]);
	free(options->warning);
	free(options->config_file);
	conf_files_free(options->files);
	*options = (struct options){ 0 };
}
