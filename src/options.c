/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table has every option, ours and virtiofsd's, on the command line proper
 * and inside -o; a second pass applies what the first one found, because the
 * command line overrides the file that it names itself.
 *
 * An option of virtiofsd that ovfs lacks is either accepted with a note in the
 * log, when nothing that the caller may rely on is lost, or refused.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "conf/schema.h"
#include "conf/suggest.h"

#define PROG "ovfs"
#define OPTIONS_MAX 1024 /* options on one command line, those inside -o included */

struct parse;

enum option_value {
	VALUE_NONE,
	VALUE_REQUIRED,
	VALUE_OPTIONAL,
};

enum option_place {
	LINE = 1 << 0,	/* --name */
	INSIDE = 1 << 1, /* -o name */
};

struct option_def {
	const char *name;
	unsigned place;
	enum option_value value;
	void (*apply)(struct parse *p, const struct option_def *def, const char *value);
	const char *key;  /* apply_key(), apply_fixed() */
	const char *text; /* the fixed value, or the reason of apply_note(), apply_refuse() */
	const char *help; /* NULL: not in --help */
	const char *value_name;
	char letter;	  /* ACTION_ or LETTER_: what the first pass does with it; or 0 */
};

enum lock_wish {
	LOCK_UNSAID,
	LOCK_OFF,
	LOCK_ON,
};

struct parse {
	struct options *options;
	struct conf_load *load;
	const char *config_file; /* in found */
	char action; /* ACTION_, or 0: run */
	enum lock_wish posix_lock, flock;
	const char *origin; /* "--cache", "-o cache": of the option being applied */

	/* What the first pass found. */
	struct option_found {
		const struct option_def *def;
		char *value; /* owned, or NULL */
		bool inside;
	} found[OPTIONS_MAX];
	size_t count;
};

#define ACTION_HELP 'h'
#define ACTION_VERSION 'V'
#define ACTION_CAPABILITIES 'p'
#define ACTION_REFERENCE 'r'
#define ACTION_CHECK 'c'
#define LETTER_CONFIG_FILE 'C'

static void note(struct parse *p, const char *why)
{
	struct options *options = p->options;
	struct options_note *grown;
	char *option = strdup(p->origin);

	grown = reallocarray(options->note, options->note_count + 1, sizeof(*grown));
	if (grown)
		options->note = grown;
	if (grown && option)
		grown[options->note_count++] = (struct options_note){ option, why };
	else
		free(option);
}

/* The ways in which an option takes effect. */

static void apply_key(struct parse *p, const struct option_def *def, const char *value)
{
	conf_load_set(p->load, def->key, value, p->origin);
}

static void apply_fixed(struct parse *p, const struct option_def *def, const char *value)
{
	(void)value;
	conf_load_set(p->load, def->key, def->text, p->origin);
}

static void apply_note(struct parse *p, const struct option_def *def, const char *value)
{
	(void)value;
	note(p, def->text);
}

static void apply_refuse(struct parse *p, const struct option_def *def, const char *value)
{
	(void)value;
	conf_load_problem_option(p->load, p->origin, "not supported: %s", def->text);
}

static void apply_nothing(struct parse *p, const struct option_def *def, const char *value)
{
	(void)p, (void)def, (void)value;
}

static void apply_fd(struct parse *p, const struct option_def *def, const char *value)
{
	unsigned long fd;
	char *end;

	(void)def;
	errno = 0;
	fd = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno || fd > INT_MAX)
		conf_load_problem_option(p->load, p->origin,
					 "got \"%.64s\", expected the number of a descriptor",
					 value);
	else
		p->options->config.socket.fd = (int)fd;
}

static void apply_cache(struct parse *p, const struct option_def *def, const char *value)
{
	/* The C virtiofsd's word, which the Rust one still takes in -o. */
	apply_key(p, def, strcmp(value, "none") == 0 ? "never" : value);
}

static void apply_level(struct parse *p, const struct option_def *def, const char *value)
{
	apply_key(p, def, strcmp(value, "err") == 0 ? "error" : value);
}

static void apply_seccomp(struct parse *p, const struct option_def *def, const char *value)
{
	if (strcmp(value, "trap") == 0) {
		note(p, "trap is taken as kill");
		value = "kill";
	}
	apply_key(p, def, value);
}

static void apply_handles(struct parse *p, const struct option_def *def, const char *value)
{
	if (strcmp(value, "mandatory") == 0)
		note(p, "mandatory is taken as prefer");
	else if (strcmp(value, "prefer") != 0 && strcmp(value, "fallback") != 0 &&
		 strcmp(value, "never") != 0)
		conf_load_problem_option(
			p->load, p->origin,
			"got \"%.64s\", expected \"never\", \"prefer\" or \"mandatory\"", value);
	apply_key(p, def, strcmp(value, "never") == 0 ? "false" : "true");
}

/* "never", "auto" or "always"; nothing means always. */
static bool wanted(struct parse *p, const char *value)
{
	if (!value || strcmp(value, "always") == 0 || strcmp(value, "auto") == 0)
		return true;
	if (strcmp(value, "never") != 0)
		conf_load_problem_option(p->load, p->origin,
					 "got \"%.64s\", expected \"never\", \"auto\" or \"always\"",
					 value);
	return false;
}

static void apply_acl(struct parse *p, const struct option_def *def, const char *value)
{
	bool on = wanted(p, value);

	conf_load_set(p->load, def->key, on ? "true" : "false", p->origin);
	if (on)
		conf_load_set(p->load, "fuse_settings.xattr", "true", p->origin);
}

static void apply_label(struct parse *p, const struct option_def *def, const char *value)
{
	if (wanted(p, value))
		apply_refuse(p, def, value);
}

static void apply_threads(struct parse *p, const struct option_def *def, const char *value)
{
	/* virtiofsd's default, which libvirt passes on: "no pool of threads". Ours
	 * starts threads only for what would block the queue. */
	if (strcmp(value, "0") == 0)
		note(p, "0 leaves the size of the thread pool as configured");
	else
		apply_key(p, def, value);
}

static void apply_timeout(struct parse *p, const struct option_def *def, const char *value)
{
	char seconds[64];

	(void)def;
	snprintf(seconds, sizeof(seconds), "%.60ss", value);
	conf_load_set(p->load, "fuse_settings.attr_timeout", seconds, p->origin);
	conf_load_set(p->load, "fuse_settings.entry_timeout", seconds, p->origin);
}

static void apply_posix_lock(struct parse *p, const struct option_def *def, const char *value)
{
	(void)value;
	p->posix_lock = def->text ? LOCK_ON : LOCK_OFF;
}

static void apply_flock(struct parse *p, const struct option_def *def, const char *value)
{
	(void)value;
	p->flock = def->text ? LOCK_ON : LOCK_OFF;
}

#define WHY_MIGRATION "live migration is not offered to the hypervisor"
#define WHY_KILLPRIV "decided with each guest"
#define WHY_MAPPING "user and group ids are not translated"

#define KEY(k) .value = VALUE_REQUIRED, .apply = apply_key, .key = (k)
#define FIXED(k, t) .apply = apply_fixed, .key = (k), .text = (t)
#define NOTE(t) .apply = apply_note, .text = (t)
#define REFUSE(t) .apply = apply_refuse, .text = (t)
#define ACTION(l) .place = LINE, .apply = apply_nothing, .letter = (l)

static const struct option_def option_defs[] = {
	/* Our own. */
	{ "config-file", LINE, VALUE_REQUIRED, apply_nothing, .value_name = "FILE",
	  .help = "read the configuration (see docs/ovfs.toml.md)", .letter = LETTER_CONFIG_FILE },
	{ "check-config", ACTION(ACTION_CHECK),
	  .help = "print the effective configuration, or all its problems, and exit" },
	{ "print-config-reference", ACTION(ACTION_REFERENCE),
	  .help = "print the reference of all configuration keys (Markdown) and exit" },
	{ "log-level", LINE, KEY("log.level"), .value_name = "LEVEL",
	  .help = "error, warn, info, debug or trace" },
	{ "help", ACTION(ACTION_HELP), .help = "print this and exit" },
	{ "version", ACTION(ACTION_VERSION), .help = "print the version and exit" },

	/* virtiofsd's. */
	{ "shared-dir", LINE, KEY("storage_settings.root"), .value_name = "DIR",
	  .help = "the directory to share" },
	{ "socket-path", LINE, KEY("socket_settings.socket_path"), .value_name = "PATH",
	  .help = "where to listen for the hypervisor" },
	{ "socket", LINE, KEY("socket_settings.socket_path") },
	{ "socket-group", LINE, KEY("socket_settings.socket_group"), .value_name = "GROUP",
	  .help = "the group that may connect" },
	{ "fd", LINE, VALUE_REQUIRED, apply_fd, .value_name = "FD",
	  .help = "a listening socket to use instead of --socket-path" },
	{ "tag", LINE, KEY("socket_settings.tag"), .value_name = "TAG",
	  .help = "the file system's name for hypervisors that ask for it" },
	{ "cache", LINE | INSIDE, VALUE_REQUIRED, apply_cache, "fuse_settings.cache",
	  .value_name = "POLICY", .help = "auto, always, never or metadata" },
	{ "readonly", LINE | INSIDE, FIXED("storage_settings.readonly", "true"),
	  .help = "refuse all changes" },
	{ "sandbox", LINE | INSIDE, KEY("sandbox_settings.mode"), .value_name = "MODE",
	  .help = "namespace, chroot or none" },
	{ "seccomp", LINE, VALUE_REQUIRED, apply_seccomp, "sandbox_settings.seccomp",
	  .value_name = "ACTION", .help = "kill, log or none" },
	{ "modcaps", LINE | INSIDE, KEY("sandbox_settings.modcaps"), .value_name = "LIST",
	  .help = "capabilities to add or drop: +sys_admin:-chown" },
	{ "thread-pool-size", LINE, VALUE_REQUIRED, apply_threads, "worker_settings.threads",
	  .value_name = "NUM", .help = "threads at most for requests that block" },
	{ "rlimit-nofile", LINE, KEY("fuse_settings.fd_limit"), .value_name = "NUM",
	  .help = "descriptors at most for the guest's files" },
	{ "inode-file-handles", LINE, VALUE_REQUIRED, apply_handles,
	  "fuse_settings.inode_file_handles", .value_name = "WHEN",
	  .help = "never, prefer or mandatory" },
	{ "xattr", LINE | INSIDE, FIXED("fuse_settings.xattr", "true"),
	  .help = "pass extended attributes through (the default)" },
	{ "posix-acl", LINE, VALUE_OPTIONAL, apply_acl, "fuse_settings.posix_acl",
	  .value_name = "WHEN", .help = "access control lists: never, auto, always" },
	{ "announce-submounts", LINE, FIXED("fuse_settings.announce_submounts", "true"),
	  .help = "tell the guest of mount points (the default)" },
	{ "no-announce-submounts", LINE, FIXED("fuse_settings.announce_submounts", "false") },
	{ "no-readdirplus", LINE, FIXED("fuse_settings.readdirplus", "false"),
	  .help = "list directories without attributes" },
	{ "writeback", LINE | INSIDE, FIXED("fuse_settings.writeback", "true"),
	  .help = "let the guest collect writes" },
	{ "allow-direct-io", LINE, FIXED("fuse_settings.allow_direct_io", "true"),
	  .help = "honour a guest's O_DIRECT on the host's file" },
	{ "print-capabilities", ACTION(ACTION_CAPABILITIES),
	  .help = "print what libvirt asks for (JSON) and exit" },

	/* virtiofsd's, without effect. */
	{ "syslog", LINE, NOTE("the log goes to stderr; systemd takes it to the journal") },
	{ "allow-mmap", LINE, NOTE("shared mappings are offered to every guest that can") },
	{ "killpriv-v2", LINE, NOTE(WHY_KILLPRIV) },
	{ "no-killpriv-v2", LINE, NOTE(WHY_KILLPRIV) },
	{ "killpriv_v2", INSIDE, NOTE(WHY_KILLPRIV) },
	{ "no_killpriv_v2", INSIDE, NOTE(WHY_KILLPRIV) },
	{ "preserve-noatime", LINE, NOTE("O_NOATIME is not treated apart") },
	{ "migration-mode", LINE, VALUE_REQUIRED, NOTE(WHY_MIGRATION) },
	{ "migration-on-error", LINE, VALUE_REQUIRED, NOTE(WHY_MIGRATION) },
	{ "migration-verify-handles", LINE, NOTE(WHY_MIGRATION) },
	{ "migration-confirm-paths", LINE, NOTE(WHY_MIGRATION) },
	{ "max_idle_threads", INSIDE, VALUE_REQUIRED, NOTE("threads end with the daemon") },
	{ "allow_root", INSIDE, NOTE("root is always allowed") },
	{ "no_security_label", INSIDE, .apply = apply_nothing },

	/* virtiofsd's, that a caller may rely on. */
	{ "xattrmap", LINE | INSIDE, VALUE_REQUIRED,
	  REFUSE("extended attributes keep their names") },
	{ "uid-map", LINE, VALUE_REQUIRED, REFUSE(WHY_MAPPING) },
	{ "gid-map", LINE, VALUE_REQUIRED, REFUSE(WHY_MAPPING) },
	{ "translate-uid", LINE, VALUE_REQUIRED, REFUSE(WHY_MAPPING) },
	{ "translate-gid", LINE, VALUE_REQUIRED, REFUSE(WHY_MAPPING) },
	{ "security-label", LINE, VALUE_OPTIONAL, apply_label, .text = "security labels" },
	{ "security_label", INSIDE, REFUSE("security labels") },
	{ "daemonize", LINE, REFUSE("ovfs stays in the foreground") },

	/* The C virtiofsd's, inside -o. */
	{ "source", INSIDE, KEY("storage_settings.root") },
	{ "timeout", INSIDE, VALUE_REQUIRED, apply_timeout },
	{ "log_level", INSIDE, VALUE_REQUIRED, apply_level, "log.level" },
	{ "loglevel", INSIDE, VALUE_REQUIRED, apply_level, "log.level" },
	{ "debug", INSIDE, FIXED("log.level", "debug") },
	{ "no_xattr", INSIDE, FIXED("fuse_settings.xattr", "false") },
	{ "posix_acl", INSIDE, .apply = apply_acl, .key = "fuse_settings.posix_acl" },
	{ "no_posix_acl", INSIDE, FIXED("fuse_settings.posix_acl", "false") },
	{ "no_writeback", INSIDE, FIXED("fuse_settings.writeback", "false") },
	{ "readdirplus", INSIDE, FIXED("fuse_settings.readdirplus", "true") },
	{ "no_readdirplus", INSIDE, FIXED("fuse_settings.readdirplus", "false") },
	{ "allow_direct_io", INSIDE, FIXED("fuse_settings.allow_direct_io", "true") },
	{ "no_allow_direct_io", INSIDE, FIXED("fuse_settings.allow_direct_io", "false") },
	{ "announce_submounts", INSIDE, FIXED("fuse_settings.announce_submounts", "true") },
	{ "posix_lock", INSIDE, .apply = apply_posix_lock, .text = "on" },
	{ "no_posix_lock", INSIDE, .apply = apply_posix_lock },
	{ "flock", INSIDE, .apply = apply_flock, .text = "on" },
	{ "no_flock", INSIDE, .apply = apply_flock },
};

static const struct option_def option_debug = {
	.name = "d", .place = LINE, FIXED("log.level", "debug"),
};

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
	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++) {
		if (option_defs[i].place & place)
			suggest_offer(&nearest, option_defs[i].name);
	}
	if (nearest.best)
		conf_load_problem_option(p->load, shown, "unknown option, did you mean %s%s?", prefix,
					 nearest.best);
	else
		conf_load_problem_option(p->load, shown, "unknown option, see --help");
}

/* One of the comma-separated options of -o. */
static void parse_inside(struct parse *p, const char *word)
{
	size_t len = strcspn(word, "=");
	const char *value = word[len] ? word + len + 1 : NULL;
	char shown[80];

	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++) {
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
	struct option names[ARRAY_SIZE(option_defs) + 1] = { 0 };
	size_t n = 0;
	int c;

	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++) {
		static const int has_arg[] = { no_argument, required_argument, optional_argument };

		if (option_defs[i].place & LINE)
			names[n++] = (struct option){ option_defs[i].name,
						      has_arg[option_defs[i].value], NULL,
						      256 + (int)i };
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
	for (; optind < argc; optind++)
		conf_load_problem_option(p->load, argv[optind], "not an option, see --help");
}

/* virtiofsd has two switches for locks, we have one. */
static void apply_locks(struct parse *p)
{
	bool on = p->posix_lock == LOCK_ON || p->flock == LOCK_ON;

	if (p->posix_lock == LOCK_UNSAID && p->flock == LOCK_UNSAID)
		return;
	p->origin = p->posix_lock != LOCK_UNSAID ? "-o posix_lock" : "-o flock";
	conf_load_set(p->load, "fuse_settings.posix_locks", on ? "true" : "false", p->origin);
	if (on && (p->posix_lock == LOCK_OFF || p->flock == LOCK_OFF))
		note(p, "posix_lock and flock are switched on together");
}

static void apply_found(struct parse *p)
{
	char origin[80];

	p->origin = origin;
	for (size_t i = 0; i < p->count; i++) {
		const struct option_found *found = &p->found[i];

		snprintf(origin, sizeof(origin), "%s%s",
			 found->inside ? "-o " : found->def->name[1] ? "--" : "-",
			 found->def->name);
		found->def->apply(p, found->def, found->value);
	}
	apply_locks(p);
}

static void print_help(FILE *out)
{
	fputs("Usage: " PROG " --config-file=FILE [OPTION]...\n"
	      "       " PROG " --shared-dir=DIR --socket-path=PATH [OPTION]...\n"
	      "Serve a directory to virtual machines as a virtio-fs device.\n\n",
	      out);
	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++) {
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
		fputs("{\n  \"type\": \"fs\",\n  \"features\": [\n    \"separate-options\"\n  ]\n}\n",
		      out);
		break;
	case ACTION_REFERENCE:
		ovfs_config_print_reference(out);
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

static int load_all(struct parse *p, int argc, char **argv, FILE *out, FILE *err)
{
	struct options *options = p->options;
	bool known = true;
	int status;

	parse_line(p, argc, argv);
	status = run_action(p, out);
	if (status != OPTIONS_RUN)
		return status;
	if (p->config_file) {
		options->config_file = strdup(p->config_file);
		known = conf_load_file(p->load, p->config_file);
	}
	apply_found(p);
	if (known) /* else it would complain of keys that the file may well have */
		ovfs_config_check(p->load, &options->config);
	status = report(p->load, err);
	if (status != OPTIONS_RUN || p->action != ACTION_CHECK)
		return status;
	ovfs_config_print(&options->config, out);
	return 0;
}

int options_load(struct options *options, int argc, char **argv, FILE *out, FILE *err)
{
	struct parse *p = calloc(1, sizeof(*p));
	int status = OPTIONS_EXIT_USAGE;

	*options = (struct options){ 0 };
	if (p) {
		p->options = options;
		p->load = ovfs_config_load_new(&options->config);
	}
	if (p && p->load)
		status = load_all(p, argc, argv, out, err);
	else
		fputs(PROG ": out of memory\n", err);
	for (size_t i = 0; p && i < p->count; i++)
		free(p->found[i].value);
	if (p)
		conf_load_free(p->load);
	free(p);
	if (status != OPTIONS_RUN)
		options_free(options);
	return status;
}

void options_log_notes(const struct options *options)
{
	for (size_t i = 0; i < options->note_count; i++)
		log_warn("option_ignored", "option=\"%s\" why=\"%s\"", options->note[i].option,
			 options->note[i].why);
}

void options_free(struct options *options)
{
	ovfs_config_free(&options->config);
	for (size_t i = 0; i < options->note_count; i++)
		free(options->note[i].option);
	free(options->note);
	free(options->config_file);
	*options = (struct options){ 0 };
}
