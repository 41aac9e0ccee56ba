/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that a configuration takes from the host, as it was at one moment: the file, those it
 * includes, those that hold secrets, groups, the memory there is.
 *
 * A loader asks the host through a snapshot alone. There are two kinds:
 *
 *	open	what is not in it yet is read from the host, once, and kept
 *	sealed	came out of a descriptor (conf_files_receive()); what is not in it can not be read
 *
 * So a process that sees the host can load and check a configuration, and hand the
 * snapshot to one that does not, which then loads the same, byte for byte.
 *
 * What could not be read is in the snapshot, too, as an error: who watches for changes has
 * to watch for its coming. One thread at a time. Texts are wiped when they are freed.
 */
#ifndef OVFS_CONF_FILES_H
#define OVFS_CONF_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct conf_files;

/* All that a snapshot holds at most. */
#define CONF_FILES_MAX 1024
#define CONF_FILES_BYTES_MAX (64u << 20)

enum conf_file_kind {
	CONF_FILE,   /* a regular file */
	CONF_FOLDER, /* .text: the names in it that end in .toml, sorted, a NUL behind each */
	CONF_GROUP,  /* .path: its name; .id: its number */
};

struct conf_file {
	enum conf_file_kind kind;
	char *path; /* as the configuration says it: relative ones start at conf_files_here() */
	int error;  /* a positive errno: there is nothing but that */
	char *text; /* with a NUL behind it, which is not counted */
	size_t len;
	bool exposed;	  /* everybody can read it */
	uint64_t dev, id; /* two paths with the same of both are one file */
};

/* Open and empty. NULL for lack of memory. */
struct conf_files *conf_files_new(void);

/* Accepts NULL. */
void conf_files_free(struct conf_files *files);

/*
 * The file at @path: at most @max bytes of it, or one more when it is longer. A folder
 * has the error EISDIR, what else is no regular file ENXIO, without any waiting. Owned by @files.
 * NULL for lack of memory.
 */
const struct conf_file *conf_files_read(struct conf_files *files, const char *path, size_t max);

/* What to tell of the error of a file. */
const char *conf_file_strerror(int error);

/* The folder at @path. */
const struct conf_file *conf_files_list(struct conf_files *files, const char *path);

/* The group called @name; ENOENT when there is none. */
const struct conf_file *conf_files_group(struct conf_files *files, const char *name);

/* The working directory when @files was made. */
const char *conf_files_here(const struct conf_files *files);

/* The memory that the daemon may use, in bytes: of the host, or of its cgroup. */
uint64_t conf_files_memory(const struct conf_files *files);

/* From now on nothing more is read from the host. */
void conf_files_seal(struct conf_files *files);
bool conf_files_sealed(const struct conf_files *files);

/* What was asked for so far, in that order, for who watches them. */
size_t conf_files_count(const struct conf_files *files);
const struct conf_file *conf_files_at(const struct conf_files *files, size_t index);

/* Whether both hold the same: then a configuration has not changed. */
bool conf_files_equal(const struct conf_files *a, const struct conf_files *b);

/* Writes @files into *@fd, a new sealed memfd, which is the caller's. */
struct err *conf_files_send(const struct conf_files *files, int *fd)
	__attribute__((warn_unused_result));

/* The sealed snapshot in @fd, read from its start; @fd stays the caller's. */
struct err *conf_files_receive(struct conf_files **out, int fd) __attribute__((warn_unused_result));

#endif
