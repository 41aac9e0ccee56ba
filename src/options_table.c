/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every option, ours and virtiofsd's, and the ways in which they take effect.
 *
 * An option of virtiofsd that ovfs lacks is either accepted with a note in the
 * log, when nothing that the caller may rely on is lost, or refused.
 */
#include "options_table.h"

#include <stdlib.h>
#include <string.h>

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
		conf_load_problem_option(
			p->load, p->origin,
			"got \"%.64s\", expected \"never\", \"auto\" or \"always\"", value);
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

const struct option_def option_defs[] = {
	/* Our own. */
	{ "config-file", LINE, VALUE_REQUIRED, apply_nothing, .value_name = "FILE",
	  .help = "read the configuration (see docs/ovfs.toml.md)", .letter = LETTER_CONFIG_FILE },
	{ "check-config", ACTION(ACTION_CHECK),
	  .help = "print the effective configuration, or all its problems, and exit" },
	{ "print-config-reference", ACTION(ACTION_REFERENCE),
	  .help = "print the reference of all configuration keys (Markdown) and exit" },
	{ "print-config-schema", ACTION(ACTION_SCHEMA),
	  .help = "print a JSON schema of the configuration and exit" },
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
	{ "fd", LINE, KEY("socket_settings.fd"), .value_name = "FD",
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
const size_t option_def_count = ARRAY_SIZE(option_defs);

const struct option_def option_debug = {
	.name = "d",
	.place = LINE,
	FIXED("log.level", "debug"),
};

/* virtiofsd has two switches for locks, we have one. */
void options_apply_locks(struct parse *p)
{
	bool on = p->posix_lock == LOCK_ON || p->flock == LOCK_ON;

	if (p->posix_lock == LOCK_UNSAID && p->flock == LOCK_UNSAID)
		return;
	p->origin = p->posix_lock != LOCK_UNSAID ? "-o posix_lock" : "-o flock";
	conf_load_set(p->load, "fuse_settings.posix_locks", on ? "true" : "false", p->origin);
	if (on && (p->posix_lock == LOCK_OFF || p->flock == LOCK_OFF))
		note(p, "posix_lock and flock are switched on together");
}
