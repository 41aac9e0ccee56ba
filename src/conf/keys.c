/* SPDX-License-Identifier: Apache-2.0 */
/* The key tables of ovfs: the single source of names, types, defaults, ranges
 * and documentation. */
#include "conf/keys.h"

#include <limits.h>

#include "base/util.h"

#define KIB 1024ull
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)
#define SECOND_NS 1000000000ull
#define DAY_NS (86400 * SECOND_NS)

#define FIELD(member) .scope = CONF_DAEMON, CONF_FIELD(struct ovfs_config, member)
#define FIELD_MOUNT(member) .scope = CONF_MOUNT, CONF_FIELD(struct ovfs_mount, member)
#define FIELD_BACKEND(member) .scope = CONF_BACKEND, CONF_FIELD(struct ovfs_backend, member)
#define FIELD_DIRECTORY(member) .scope = CONF_DIRECTORY, CONF_FIELD(struct ovfs_directory, member)

#define ONLY_FS CONF_ONLY(OVFS_STORAGE_FS)
#define ONLY_S3 CONF_ONLY(OVFS_STORAGE_S3)
#define ONLY_MEMORY CONF_ONLY(OVFS_STORAGE_MEMORY)
#define ONLY_OBJECTS (ONLY_S3 | ONLY_MEMORY)

/* The larger tables; they need the names above. */
#include "conf/keys_object.h"
#include "conf/keys_storage.h"

static const char *const words_cache[] = {
	[OVFS_CACHE_AUTO] = "auto",
	[OVFS_CACHE_ALWAYS] = "always",
	[OVFS_CACHE_NEVER] = "never",
	[OVFS_CACHE_METADATA] = "metadata",
	NULL,
};

static const char *const words_poll[] = {
	[OVFS_POLL_AUTO] = "auto",
	[OVFS_POLL_LATENCY] = "latency",
	[OVFS_POLL_THROUGHPUT] = "throughput",
	NULL,
};

static const char *const words_sandbox[] = {
	[OVFS_SANDBOX_NAMESPACE] = "namespace",
	[OVFS_SANDBOX_CHROOT] = "chroot",
	[OVFS_SANDBOX_NONE] = "none",
	NULL,
};

static const char *const words_seccomp[] = {
	[OVFS_SECCOMP_KILL] = "kill",
	[OVFS_SECCOMP_LOG] = "log",
	[OVFS_SECCOMP_NONE] = "none",
	NULL,
};

static const char *const words_map[] = {
	[OVFS_MAP_COPY] = "copy",
	[OVFS_MAP_DIRECT] = "direct",
	NULL,
};

/* Bit i of enum ovfs_sandbox_stage is word i. */
static const char *const words_stage[] = {
	"user", "mount", "pid", "net", "ipc", "capabilities", "no_new_privs", "seccomp", NULL,
};
_Static_assert(OVFS_STAGE_SECCOMP == 1 << (ARRAY_SIZE(words_stage) - 2), "stages and words");

static const char *const words_level[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARN] = "warn",	  [LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug", [LOG_LEVEL_TRACE] = "trace", NULL,
};

static const char *const words_target[] = {
	[OVFS_LOG_AUTO] = "auto",
	[OVFS_LOG_STDERR] = "stderr",
	[OVFS_LOG_JOURNAL] = "journal",
	NULL,
};

static const struct conf_key keys_root[] = {
	{ .name = "include",
	  .doc = "Further files, or folders of which every file *.toml is read, in the order of "
		 "their names: a path or a list of them, which start at the folder of this file. "
		 "What they say is added to this file; a key that is given twice is an error.",
	  .type = CONF_PATHS,
	  .min = 1,
	  .max = PATH_MAX - 1,
	  .flags = CONF_INCLUDE },
};

static const struct conf_key keys_mount[] = {
	{ .name = "name",
	  .doc = "What the mount is called in the log, in metrics and by ovfsctl, and by which a "
		 "reload knows it again. Not set: the tag. A file without [[mount]] has one mount, "
		 "called default.",
	  .type = CONF_STRING,
	  .min = 1,
	  .max = OVFS_NAME_MAX,
	  FIELD_MOUNT(name) },
	{ .name = "tag",
	  .doc = "The name under which a guest mounts the file system.",
	  .type = CONF_STRING,
	  .min = 1,
	  .max = OVFS_TAG_MAX,
	  .change = CONF_CHANGE_CONNECTION,
	  .scope = CONF_MOUNT,
	  .alias = "socket_settings.tag" },
};

static const struct conf_key keys_directory[] = {
	{ .name = "path",
	  .doc = "Where the storage is seen: a path in the mount, such as \"data\" or "
		 "\"data/2024\". None may lie in another.",
	  .type = CONF_PATH,
	  .min = 1,
	  .max = 1024,
	  .flags = CONF_REQUIRED,
	  FIELD_DIRECTORY(path) },
};

static const struct conf_key keys_socket[] = {
	{ .name = "socket_path",
	  .doc = "Where ovfs listens for the hypervisor (a UNIX socket), or a list of sockets, "
		 "one for each of several guests. Its directory must exist; a stale socket is "
		 "replaced, one that somebody listens on is not.",
	  .type = CONF_PATHS,
	  .min = 1,
	  .max = OVFS_SOCKET_PATH_MAX,
	  .flags = CONF_REQUIRED,
	  .change = CONF_CHANGE_LIVE,
	  FIELD_MOUNT(socket.path) },
	{ .name = "tag",
	  .doc = "The name under which a guest mounts the file system, told to hypervisors that "
		 "ask the daemon for it. Leave it out for QEMU's vhost-user-fs-pci, which keeps "
		 "the tag itself: QEMU 7.1 to 8.0 crash when they are told.",
	  .type = CONF_STRING,
	  .min = 1,
	  .max = OVFS_TAG_MAX,
	  FIELD_MOUNT(socket.tag) },
	/* A queue is a thread, and an idle one costs a stack. A guest uses at most
	 * one queue for each virtual CPU, and before Linux 6.11 one in all; four is
	 * what small guests can use, and large ones have an owner who sets it. */
	{ .name = "num_request_queues",
	  .doc = "How many request queues a guest may use at most (QEMU's num-request-queues); "
		 "each is served by its own thread. Guests before Linux 6.11 use one.",
	  .type = CONF_INTEGER,
	  .standard = "4",
	  .min = 1,
	  .max = OVFS_REQUEST_QUEUES_MAX,
	  FIELD_MOUNT(socket.num_request_queues) },
	{ .name = "socket_group",
	  .doc = "A group, by name or number, that may connect to the socket.",
	  .type = CONF_STRING,
	  .min = 1,
	  .max = 255,
	  .change = CONF_CHANGE_RESTART,
	  FIELD_MOUNT(socket.group) },
	{ .name = "poll",
	  .doc = "When a queue's thread keeps looking for the next request before it sleeps. auto: "
		 "while that is measured to pay: it takes no more processor time than sleeping and "
		 "waking up; or the guest gets at least a third more done when it is not "
		 "interrupted for each answer, for at most half more. latency: while requests "
		 "come within poll_us, whatever it costs. throughput: the same, and the guest "
		 "hears "
		 "of up to 16 answers together. None where another thread wants the processor.",
	  .type = CONF_CHOICE,
	  .standard = "auto",
	  .words = words_poll,
	  FIELD_MOUNT(socket.poll) },
	{ .name = "poll_us",
	  .doc = "How many microseconds a queue's thread keeps looking for the next request at "
		 "most, "
		 "see poll. 0: it always sleeps at once.",
	  .type = CONF_INTEGER,
	  .standard = "50",
	  .max = 1000000,
	  FIELD_MOUNT(socket.poll_us) },
	{ .name = "fd",
	  .doc = "A listening socket in place of socket_path (--fd).",
	  .type = CONF_INTEGER,
	  .max = INT32_MAX,
	  .flags = CONF_COMMAND,
	  .change = CONF_CHANGE_RESTART,
	  FIELD_MOUNT(socket.fd) },
};

static const struct conf_key keys_fuse[] = {
	{ .name = "cache",
	  .doc = "What a guest may keep in its own caches. auto: attributes and names for their "
		 "time-outs, data until the file changes. always: everything, when nobody else "
		 "changes the storage. never: nothing (of objects, data that is unchanged "
		 "stays). metadata: as auto, but no data (fs only).",
	  .type = CONF_CHOICE,
	  .standard = "auto",
	  .words = words_cache,
	  FIELD_MOUNT(fuse.cache) },
	{ .name = "attr_timeout",
	  .doc = "How long a guest may believe attributes (size, times, mode): changes made "
		 "elsewhere show up after this time. Used by cache auto and metadata.",
	  .type = CONF_DURATION,
	  .standard = "1s",
	  .max = 365 * DAY_NS,
	  FIELD_MOUNT(fuse.attr_timeout_ns) },
	{ .name = "entry_timeout",
	  .doc = "How long a guest may believe that a name leads to its file. Used by cache auto "
		 "and metadata.",
	  .type = CONF_DURATION,
	  .standard = "1s",
	  .max = 365 * DAY_NS,
	  FIELD_MOUNT(fuse.entry_timeout_ns) },
	{ .name = "negative_timeout",
	  .doc = "How long a guest may believe that a name does not exist. Used by cache auto and "
		 "metadata.",
	  .type = CONF_DURATION,
	  .standard = "1s",
	  .max = 365 * DAY_NS,
	  FIELD_MOUNT(fuse.negative_timeout_ns) },
	{ .name = "writeback",
	  .doc = "Let a guest collect writes in its page cache and send them later: faster small "
		 "writes, but what is not yet sent is lost with the guest, and the guest rather "
		 "than the host keeps size and mtime of files that it writes.",
	  .type = CONF_BOOL,
	  .standard = "false",
	  .only = ONLY_FS,
	  FIELD_MOUNT(fuse.writeback) },
	{ .name = "xattr",
	  .doc = "Pass extended attributes through.",
	  .type = CONF_BOOL,
	  .standard = "true",
	  .only = ONLY_FS,
	  FIELD_MOUNT(fuse.xattr) },
	{ .name = "posix_acl",
	  .doc = "Let the guest apply POSIX access control lists. They are extended attributes: "
		 "without xattr there are none.",
	  .type = CONF_BOOL,
	  .standard = "true",
	  .only = ONLY_FS,
	  FIELD_MOUNT(fuse.posix_acl) },
	{ .name = "posix_locks",
	  .doc = "Forward fcntl and flock locks to the host, so that they hold between guests and "
		 "against host processes. Without it, locks hold inside one guest only.",
	  .type = CONF_BOOL,
	  .standard = "true",
	  .only = ONLY_FS,
	  FIELD_MOUNT(fuse.posix_locks) },
	{ .name = "announce_submounts",
	  .doc = "Tell the guest which directories are mount points on the host, so that files of "
		 "different file systems with one inode number stay apart.",
	  .type = CONF_BOOL,
	  .standard = "true",
	  .only = ONLY_FS,
	  FIELD_MOUNT(fuse.announce_submounts) },
	{ .name = "allow_direct_io",
	  .doc = "Open the host's file with O_DIRECT when a guest's program asks for it. Without "
		 "it, O_DIRECT bypasses the guest's cache only.",
	  .type = CONF_BOOL,
	  .standard = "false",
	  .only = ONLY_FS,
	  FIELD_MOUNT(fuse.allow_direct_io) },
	{ .name = "readdirplus",
	  .doc = "Return attributes together with directory entries where the guest wants them.",
	  .type = CONF_BOOL,
	  .standard = "true",
	  FIELD_MOUNT(fuse.readdirplus) },
	{ .name = "max_write",
	  .doc = "The largest single write or read that is offered to a guest, a multiple of 4KiB. "
		 "The guest's own limits may make it smaller (the queue size: with QEMU's "
		 "default of 128 a request ends at 496KiB, use queue-size=1024).",
	  .type = CONF_SIZE,
	  .standard = "1MiB",
	  .min = 4 * KIB,
	  .max = 16 * MIB,
	  .change = CONF_CHANGE_CONNECTION,
	  FIELD_MOUNT(fuse.max_write) },
	{ .name = "inode_file_handles",
	  .doc = "Remember files by file handle where the host can, instead of one open "
		 "descriptor for each file that a guest knows.",
	  .type = CONF_BOOL,
	  .standard = "true",
	  .only = ONLY_FS,
	  FIELD_MOUNT(fuse.inode_file_handles) },
	{ .name = "fd_limit",
	  .doc = "How many descriptors may be used for the guest's files. 0: what RLIMIT_NOFILE "
		 "leaves.",
	  .type = CONF_INTEGER,
	  .standard = "0",
	  .max = 1u << 30,
	  .only = ONLY_FS,
	  FIELD_MOUNT(fuse.fd_limit) },
};

static const struct conf_key keys_sandbox[] = {
	{ .name = "mode",
	  .doc = "How the daemon locks itself in before it serves a guest. namespace: own "
		 "namespaces with the shared directory as root. chroot: only the root is "
		 "changed, for containers that made the namespaces. none: neither.",
	  .type = CONF_CHOICE,
	  .standard = "namespace",
	  .words = words_sandbox,
	  FIELD(sandbox.mode) },
	{ .name = "seccomp",
	  .doc = "What happens on a system call that the daemon has no use for: kill the process, "
		 "log it (audit) and go on, or no filter at all.",
	  .type = CONF_CHOICE,
	  .standard = "kill",
	  .words = words_seccomp,
	  FIELD(sandbox.seccomp) },
	{ .name = "disable",
	  .doc = "Stages of the isolation to leave out, for hosts where one can not be had.",
	  .type = CONF_FLAGS,
	  .standard = "",
	  .words = words_stage,
	  FIELD(sandbox.disable) },
	{ .name = "modcaps",
	  .doc = "Capabilities to keep or to drop besides the usual ones, such as "
		 "\"+sys_admin:-chown\".",
	  .type = CONF_STRING,
	  .min = 2,
	  .max = 1024,
	  FIELD(sandbox.modcaps) },
};

static const struct conf_key keys_worker[] = {
	/* Enough to keep a disk or a network file system busy from one guest; with
	 * objects a thread waits for each answer of the service. They start on demand. */
	{ .name = "threads",
	  .doc = "How many threads at most work on requests that may block. They are started as "
		 "needed. 0: 16 for type fs, 64 for s3 and memory.",
	  .type = CONF_INTEGER,
	  .standard = "0",
	  .max = 1024,
	  FIELD_MOUNT(worker.threads) },
};

static const struct conf_key keys_log[] = {
	{ .name = "level",
	  .doc = "The least important events that are logged.",
	  .type = CONF_CHOICE,
	  .standard = "info",
	  .words = words_level,
	  FIELD(log.level) },
	{ .name = "target",
	  .doc = "The form of the log on stderr: stderr has a time in front, journal a priority. "
		 "auto looks whether stderr is the journal.",
	  .type = CONF_CHOICE,
	  .standard = "auto",
	  .words = words_target,
	  .change = CONF_CHANGE_RESTART,
	  FIELD(log.target) },
	{ .name = "slow_request",
	  .doc = "A request of a guest that takes longer than this is logged, with where its time "
		 "went. 0: none is.",
	  .type = CONF_DURATION,
	  .standard = "1s",
	  .max = DAY_NS,
	  FIELD(log.slow_request_ns) },
};

static const struct conf_key keys_ctl[] = {
	{ .name = "socket_path",
	  .doc = "Where ovfsctl talks to the daemon (a UNIX socket, for its owner only), such as "
		 "\"/run/ovfs/ctl.sock\", which is where ovfsctl looks. Not set: nowhere.",
	  .type = CONF_PATH,
	  .min = 1,
	  .max = OVFS_SOCKET_PATH_MAX,
	  FIELD(ctl.path) },
	{ .name = "socket_group",
	  .doc = "A group, by name or number, that may use ovfsctl, too.",
	  .type = CONF_STRING,
	  .min = 1,
	  .max = 255,
	  FIELD(ctl.group) },
};

static const struct conf_key keys_metrics[] = {
	{ .name = "listen",
	  .doc = "Where metrics (for Prometheus) and /healthz are served over HTTP: an address and "
		 "port such as \"127.0.0.1:9953\" or \"[::1]:9953\", or \"unix:/path\". Not "
		 "set: nowhere.",
	  .type = CONF_STRING,
	  .min = 1,
	  .max = 128,
	  FIELD(metrics.listen) },
};

static const struct conf_key keys_reload[] = {
	{ .name = "watch",
	  .doc = "Load the configuration again when one of its files changes. Without it: on "
		 "SIGHUP and ovfsctl reload only.",
	  .type = CONF_BOOL,
	  .standard = "true",
	  FIELD(reload.watch) },
};

static const struct conf_key keys_dax[] = {
	{ .name = "enabled",
	  .doc = "Offer a DAX window: guests map files into their memory, without a "
		 "copy of their own. Needs a hypervisor that knows it.",
	  .type = CONF_BOOL,
	  .standard = "false",
	  FIELD_MOUNT(dax.enabled) },
	{ .name = "window_size",
	  .doc = "The size of the window, a power of two: how much can be mapped at a time. What "
		 "is "
		 "cached needs twice the windows of all sockets in cache_settings.size.",
	  .type = CONF_SIZE,
	  .standard = "256MiB",
	  .min = 2 * MIB,
	  .max = 1ull << 40,
	  FIELD_MOUNT(dax.window_size) },
	{ .name = "map",
	  .doc = "How files of a directory are mapped. copy: as copies in memory. direct: the "
		 "host's file itself, without a copy; but when somebody else cuts a file "
		 "that a guest has mapped, that guest's hypervisor ends. Objects are always "
		 "copies.",
	  .type = CONF_CHOICE,
	  .standard = "copy",
	  .words = words_map,
	  FIELD_MOUNT(dax.map) },
};

#define SELECTOR "storage_settings.type"
#define TABLE(keys) .key = (keys), .key_count = ARRAY_SIZE(keys)

const struct conf_table ovfs_tables[] = {
	{ .name = "",
	  .doc = "These keys stand before the first table of a file.",
	  .form = CONF_FORM_ROOT,
	  TABLE(keys_root) },
	{ .name = "mount",
	  .doc = "Several mounts, each with sockets and a storage of its own. In a mount stand "
		 "these "
		 "keys, and tables as at the top of the file: [mount.socket_settings], "
		 "[mount.storage_settings] and so on. What stands at the top is then the default "
		 "for all mounts.",
	  .form = CONF_FORM_MOUNT,
	  TABLE(keys_mount) },
	{ .name = "directory",
	  .doc = "Several storages in one mount, each in a directory of its own: this key, and "
		 "[mount.directory.storage_settings] and so on. A storage that is added reaches "
		 "running guests. What the mount says is the default for its directories; it has "
		 "no other content than these.",
	  .form = CONF_FORM_DIRECTORY,
	  TABLE(keys_directory) },
	{ .name = "socket_settings",
	  .doc = "The connection to the hypervisor.",
	  .change = CONF_CHANGE_CONNECTION,
	  TABLE(keys_socket) },
	{ .name = "storage_settings",
	  .doc = "What is shared.",
	  TABLE(keys_storage),
	  .selector = SELECTOR,
	  .refused = refused_storage,
	  .refused_count = ARRAY_SIZE(refused_storage) },
	{ .name = "cache_settings",
	  .doc = "The cache in the daemon's memory, between the guests and the storage. There is "
		 "one for all mounts.",
	  TABLE(keys_cache),
	  .selector = SELECTOR },
	{ .name = "object_settings",
	  .doc = "How objects are shown as files.",
	  .change = CONF_CHANGE_RESTART,
	  TABLE(keys_object),
	  .selector = SELECTOR,
	  .only = ONLY_OBJECTS },
	{ .name = "retry_settings",
	  .doc = "What happens when a request to the storage fails.",
	  TABLE(keys_retry),
	  .selector = SELECTOR,
	  .only = ONLY_OBJECTS },
	{ .name = "timeout_settings",
	  .doc = "When a request to the storage counts as failed.",
	  TABLE(keys_timeout),
	  .selector = SELECTOR,
	  .only = ONLY_OBJECTS },
	{ .name = "limit_settings",
	  .doc = "How much is asked of the storage at a time.",
	  TABLE(keys_limit),
	  .selector = SELECTOR,
	  .only = ONLY_OBJECTS },
	{ .name = "fuse_settings",
	  .doc = "What a guest is offered and may cache.",
	  .change = CONF_CHANGE_RESTART,
	  TABLE(keys_fuse),
	  .selector = SELECTOR },
	{ .name = "sandbox_settings",
	  .doc = "The daemon's own isolation.",
	  .change = CONF_CHANGE_RESTART,
	  TABLE(keys_sandbox) },
	{ .name = "worker_settings",
	  .doc = "Threads besides those of the queues.",
	  .change = CONF_CHANGE_RESTART,
	  TABLE(keys_worker) },
	{ .name = "dax_settings",
	  .doc = "The DAX window.",
	  .change = CONF_CHANGE_CONNECTION,
	  TABLE(keys_dax) },
	{ .name = "log", .doc = "The log.", TABLE(keys_log) },
	{ .name = "ctl_settings",
	  .doc = "The control socket, for ovfsctl.",
	  .change = CONF_CHANGE_RESTART,
	  TABLE(keys_ctl) },
	{ .name = "metrics_settings",
	  .doc = "What monitoring reads.",
	  .change = CONF_CHANGE_RESTART,
	  TABLE(keys_metrics) },
	{ .name = "reload_settings",
	  .doc = "Changes of the configuration while the daemon runs.",
	  TABLE(keys_reload) },
};
const size_t ovfs_table_count = ARRAY_SIZE(ovfs_tables);
