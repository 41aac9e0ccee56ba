/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The effective configuration: what main builds the daemon from.
 *
 * Two sources, the file and the command line, feed one set of key tables
 * (conf/schema.h has the machinery, conf/keys.c the tables), and the result is
 * the plain struct below: every value resolved, checked and in base units, so
 * that nobody else parses anything. The tables are also what --check-config
 * and the reference document are written from.
 *
 * The struct owns its strings. It is written by one thread before the daemon
 * starts and only read afterwards.
 */
#ifndef OVFS_CONF_CONF_H
#define OVFS_CONF_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/log.h"

struct conf_load;

#define OVFS_SOCKET_PATH_MAX 107   /* bytes: sun_path, unix(7) */
#define OVFS_TAG_MAX 36		   /* bytes: virtio 1.3, 5.11.4 */
#define OVFS_REQUEST_QUEUES_MAX 63 /* and hiprio makes 64 */

#define OVFS_SOCKET_FD_NONE (-1)
#define OVFS_SOCKET_GID_NONE ((gid_t)UINT32_MAX)

enum ovfs_storage_type {
	OVFS_STORAGE_FS,
};

/* In the order of enum filefs_cache. */
enum ovfs_cache {
	OVFS_CACHE_AUTO,
	OVFS_CACHE_ALWAYS,
	OVFS_CACHE_NEVER,
	OVFS_CACHE_METADATA,
};

enum ovfs_sandbox_mode {
	OVFS_SANDBOX_NAMESPACE, /* own namespaces, pivot_root into the shared directory */
	OVFS_SANDBOX_CHROOT,	/* chroot only: somebody else made the namespaces */
	OVFS_SANDBOX_NONE,	/* no change of the root; the other stages still apply */
};

/* What a system call outside the filter does. */
enum ovfs_seccomp {
	OVFS_SECCOMP_KILL,
	OVFS_SECCOMP_LOG,
	OVFS_SECCOMP_NONE,
};

/* Bits of ovfs_config.sandbox.disable: the stages of the isolation that can be
 * turned off one by one. OVFS_STAGE_SECCOMP says the same as
 * OVFS_SECCOMP_NONE, and ovfs_config_check() makes it so. */
enum ovfs_sandbox_stage {
	OVFS_STAGE_USER = 1 << 0,  /* user namespace, when not started as root */
	OVFS_STAGE_MOUNT = 1 << 1, /* the mount namespace and the change of the root */
	OVFS_STAGE_PID = 1 << 2,
	OVFS_STAGE_NET = 1 << 3,
	OVFS_STAGE_IPC = 1 << 4,
	OVFS_STAGE_CAPABILITIES = 1 << 5,
	OVFS_STAGE_NO_NEW_PRIVS = 1 << 6,
	OVFS_STAGE_SECCOMP = 1 << 7,
};

enum ovfs_log_target {
	OVFS_LOG_AUTO, /* the journal's form when stderr is the journal */
	OVFS_LOG_STDERR,
	OVFS_LOG_JOURNAL,
};

struct ovfs_config {
	struct {
		char *path;		     /* NULL only when fd is given */
		char *tag;		     /* NULL: none */
		unsigned num_request_queues; /* 1 .. 63 */
		unsigned poll_us;	     /* 0: no busy polling */
		char *group;		     /* NULL: none */
		gid_t gid;		     /* of group, or OVFS_SOCKET_GID_NONE */
		int fd; /* --fd: a listening socket instead of path, or OVFS_SOCKET_FD_NONE */
	} socket;
	struct {
		enum ovfs_storage_type type;
		char *root; /* an existing directory */
		bool readonly;
	} storage;
	struct {
		enum ovfs_cache cache;
		uint64_t attr_timeout_ns;
		uint64_t entry_timeout_ns;
		uint64_t negative_timeout_ns;
		bool writeback;
		bool xattr;
		bool posix_acl; /* only with xattr */
		bool posix_locks;
		bool announce_submounts;
		bool allow_direct_io;
		bool readdirplus;
		bool inode_file_handles;
		uint32_t max_write; /* bytes, a multiple of 4096 */
		unsigned fd_limit;  /* 0: derived from RLIMIT_NOFILE */
	} fuse;
	struct {
		enum ovfs_sandbox_mode mode;
		enum ovfs_seccomp seccomp;
		uint64_t disable; /* enum ovfs_sandbox_stage */
		char *modcaps;	  /* "+sys_admin:-chown": form checked, names not. NULL: none */
	} sandbox;
	struct {
		unsigned threads; /* at most, for each mount */
	} worker;
	struct {
		enum log_level level;
		enum ovfs_log_target target;
	} log;
};

/* Frees what @config holds, not @config itself; a second call is harmless. */
void ovfs_config_free(struct ovfs_config *config);

/* Writes @config as a configuration file that yields it again; secrets are
 * masked. */
void ovfs_config_print(const struct ovfs_config *config, FILE *out);

/* Writes the reference of all keys, generated from the key tables, in Markdown. */
void ovfs_config_print_reference(FILE *out);

/* A loader (conf/schema.h) that fills @config, from the defaults on. @config
 * is the caller's, who frees it whatever came of loading. NULL for lack of
 * memory. */
struct conf_load *ovfs_config_load_new(struct ovfs_config *config);

/* The checks that look at several keys or at the system (required keys, the
 * root a directory, the socket's folder, the group), once the file and the
 * command line are in. @config is the one that @load fills. Adds to the
 * problems of @load. */
void ovfs_config_check(struct conf_load *load, struct ovfs_config *config);

#endif
