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
#include "conf/list.h"

struct conf_files;
struct conf_load;

#define OVFS_SOCKET_PATH_MAX 107   /* bytes: sun_path, unix(7) */
#define OVFS_TAG_MAX 36		   /* bytes: virtio 1.3, 5.11.4 */
#define OVFS_NAME_MAX 64	   /* bytes of a mount's name */
#define OVFS_REQUEST_QUEUES_MAX 63 /* and hiprio makes 64 */

#define OVFS_ROOT_TIMEOUT_MS 3000 /* for a look at a directory that is to be served */

#define OVFS_SOCKET_FD_NONE (-1)
#define OVFS_SOCKET_GID_NONE ((gid_t)UINT32_MAX)

enum ovfs_storage_type {
	OVFS_STORAGE_FS,     /* a directory of the host */
	OVFS_STORAGE_S3,     /* a bucket */
	OVFS_STORAGE_MEMORY, /* objects in our own memory */
};

enum ovfs_checksum {
	OVFS_CHECKSUM_OFF,
	OVFS_CHECKSUM_CRC32C,
	OVFS_CHECKSUM_CRC64NVME,
	OVFS_CHECKSUM_MD5,
};

enum ovfs_encryption {
	OVFS_ENCRYPTION_BUCKET, /* nothing is asked for */
	OVFS_ENCRYPTION_AES256,
	OVFS_ENCRYPTION_KMS,
	OVFS_ENCRYPTION_KMS_DSSE,
};

enum ovfs_conflict {
	OVFS_CONFLICT_FAIL,
	OVFS_CONFLICT_OVERWRITE,
};

/* In the order of enum pool_huge_pages. */
enum ovfs_huge_pages {
	OVFS_HUGE_AUTO,
	OVFS_HUGE_NEVER,
	OVFS_HUGE_ALWAYS,
};

enum ovfs_unsupported {
	OVFS_UNSUPPORTED_FAIL,
	OVFS_UNSUPPORTED_IGNORE,
};

/* In the order of enum filefs_cache. */
enum ovfs_cache {
	OVFS_CACHE_AUTO,
	OVFS_CACHE_ALWAYS,
	OVFS_CACHE_NEVER,
	OVFS_CACHE_METADATA,
};

enum ovfs_poll {
	OVFS_POLL_AUTO,
	OVFS_POLL_LATENCY,
	OVFS_POLL_THROUGHPUT,
};

enum ovfs_map {
	OVFS_MAP_COPY,	 /* a guest's window shows copies of files */
	OVFS_MAP_DIRECT, /* the host's files */
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

/* [storage_settings] of type s3, with OpenDAL's names. Strings: NULL when not set. */
struct ovfs_s3 {
	char *bucket, *endpoint, *region;
	bool enable_virtual_host_style;
	char *access_key_id, *secret_access_key, *session_token;
	char *secret_access_key_file, *session_token_file; /* where those came from */
	char *profile, *role_arn, *external_id, *role_session_name;
	uint32_t assume_role_duration_seconds;
	bool disable_config_load, disable_ec2_metadata, skip_signature, allow_anonymous;
	enum ovfs_encryption server_side_encryption;
	char *server_side_encryption_aws_kms_key_id;
	bool server_side_encryption_bucket_key_enabled;
	char *server_side_encryption_customer_algorithm;
	char *server_side_encryption_customer_key, *server_side_encryption_customer_key_md5;
	char *server_side_encryption_customer_key_file;
	char *default_storage_class, *default_acl;
	enum ovfs_checksum checksum_algorithm;
	bool sign_payload;
	bool enable_request_payer, disable_list_objects_v2;
	bool disable_write_with_if_match, disable_stat_with_override;
	uint32_t delete_max_size;
	char *ca_bundle, *client_certificate, *client_key, *proxy;
	uint32_t connections_max;
	uint64_t connect_timeout_ns;
};

/* One storage, and all that stands between it and a file system driver. */
struct ovfs_backend {
	struct {
		enum ovfs_storage_type type;
		char *root; /* fs: an existing directory; else a prefix, or NULL */
		bool readonly;
		uint64_t capacity; /* of type memory, bytes */
		struct ovfs_s3 s3;
	} storage;
	struct { /* its part in the pool of ovfs_config */
		bool enabled;
		bool write_back;
		uint64_t write_back_delay_ns;
		unsigned dirty_limit; /* percent of the pool */
		bool expiration;
		uint64_t expiration_time_ns;
		uint64_t read_ahead; /* bytes */
		uint32_t part_size;  /* bytes */
		unsigned parts_in_flight;
		uint64_t wait_timeout_ns;
		enum ovfs_conflict on_conflict;
		uint64_t drain_timeout_ns;
	} cache;
	struct {
		uint32_t file_mode, dir_mode; /* permissions */
		uint32_t uid, gid;
		enum ovfs_unsupported on_unsupported;
		unsigned listing_max; /* entries */
		uint64_t statfs_size; /* bytes */
		unsigned rename_max;  /* objects */
		uint64_t sparse_max;  /* bytes; 0: no limit */
	} object;
	struct {
		unsigned attempts;
		uint64_t pause_first_ns, pause_max_ns;
		uint64_t total_ns; /* 0: none */
	} retry;
	struct {
		uint64_t silence_min_ns, silence_max_ns, server_max_ns;
		uint64_t bytes_per_second_min;
	} timeout;
	struct {
		unsigned data_requests, metadata_requests;     /* 0: no limit */
		uint64_t upload_bandwidth, download_bandwidth; /* bytes a second; 0: no limit */
	} limit;
};

/* [[mount.directory]]: a storage that is shown below the root of its mount. */
struct ovfs_directory {
	char *path; /* "a" or "a/b": relative, no "." or "..", none is inside of another */
	struct ovfs_backend backend;
};

/* [[mount]]: what guests see through one or several sockets. */
struct ovfs_mount {
	char *name;    /* unique; not NULL once checked. The one without [[mount]]: "default" */
	bool implicit; /* there is no [[mount]] */
	struct {
		struct conf_list path;	     /* of sockets; empty only when fd is given */
		char *tag;		     /* NULL: none */
		unsigned num_request_queues; /* of each socket, 1 .. 63 */
		enum ovfs_poll poll;	     /* when, for up to ... */
		unsigned poll_us;	     /* 0: never */
		char *group;		     /* NULL: none */
		gid_t gid;		     /* of group, or OVFS_SOCKET_GID_NONE */
		int fd; /* --fd: a listening socket instead of path, or OVFS_SOCKET_FD_NONE */
	} socket;
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
		unsigned threads; /* at most, for this mount; not 0 once checked */
	} worker;
	struct {
		bool enabled;
		uint64_t window_size; /* bytes, a power of two */
		enum ovfs_map map;
	} dax;
	/* What is shown: backend, or with directories these alone; backend is then all zero. */
	struct ovfs_backend backend;
	struct ovfs_directory *directories;
	size_t directory_count;
};

struct ovfs_config {
	struct {		      /* the one cache of the daemon */
		uint64_t size;	      /* bytes; never 0 once checked, when a mount uses it */
		uint64_t block_sizes; /* powers of two, or-ed; 1 .. 8 of them */
		enum ovfs_huge_pages huge_pages;
	} pool;
	struct {
		enum ovfs_sandbox_mode mode;
		enum ovfs_seccomp seccomp;
		uint64_t disable; /* enum ovfs_sandbox_stage */
		char *modcaps;	  /* "+sys_admin:-chown": form checked, names not. NULL: none */
	} sandbox;
	struct {
		enum log_level level;
		enum ovfs_log_target target;
		uint64_t slow_request_ns; /* 0: none is slow */
	} log;
	struct {
		char *path;  /* of the control socket; NULL: none */
		char *group; /* NULL: the owner only */
		gid_t gid;   /* of group, or OVFS_SOCKET_GID_NONE */
	} ctl;
	struct {
		char *listen; /* "127.0.0.1:9953", "[::1]:9953" or "unix:/path"; NULL: off */
	} metrics;
	struct {
		bool watch; /* the files of the configuration */
	} reload;
	struct ovfs_mount *mounts;
	size_t mount_count; /* at least 1 once checked */
};

/* Whether anything of @mount uses the pool. */
bool ovfs_mount_has_cache(const struct ovfs_mount *mount);

/* Frees what @config holds, not @config itself; a second call is harmless. */
void ovfs_config_free(struct ovfs_config *config);

/* Writes @config as a configuration file that yields it again; secrets are
 * masked. */
void ovfs_config_print(const struct ovfs_config *config, FILE *out);

/* Writes the reference of all keys, generated from the key tables, in Markdown. */
void ovfs_config_print_reference(FILE *out);

/* Writes a JSON schema (draft-07), generated likewise. */
void ovfs_config_print_schema(FILE *out);

/* A loader (conf/schema.h) for struct ovfs_config, which reads from @files: borrowed, outlives
 * it. NULL for lack of memory. */
struct conf_load *ovfs_config_load_new(struct conf_files *files);

/*
 * Once the files and the command line are in: sets @config, which is the caller's, who frees
 * it whatever came of loading. Adds to the problems of @load what is missing, given twice, or does
 * not go together; and what the system has to say (the root a directory, the socket's folder),
 * unless the files are sealed: then it was asked elsewhere. A root that does not answer is no
 * problem, but a warning: who wants to open it looks for himself.
 */
void ovfs_config_check(struct conf_load *load, struct ovfs_config *config);

#endif
