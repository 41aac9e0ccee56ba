/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that hold secrets and are read again and again, because others rotate them.
 *
 * The folder is opened once, early, and the file looked up in it each time: the file may be
 * replaced by rename, also through symbolic links that stay below the folder (as Kubernetes
 * does), and the process may meanwhile have entered a sandbox where the path means nothing.
 *
 * One thread at a time. Contents are wiped by s3_secret_free().
 */
#ifndef OVFS_STORE_SERVICES_S3_SECRET_FILE_H
#define OVFS_STORE_SERVICES_S3_SECRET_FILE_H

#include <stddef.h>

#define S3_SECRET_FILE_MAX (1 << 20) /* bytes of a file */

struct s3_secret_file {
	char *path; /* for messages; NULL: there is none */
	const char *name;
	int folder_fd; /* -1: it was not there; tried again by path */
};

/* Copies @path; a folder that is missing is no error. 0 or -ENOMEM. */
int s3_secret_file_init(struct s3_secret_file *file, const char *path);

/* Also for one that is all zeroes. */
void s3_secret_file_destroy(struct s3_secret_file *file);

/*
 * The whole of it, NUL-terminated, for s3_secret_free(). 0 or negative errno: that of
 * open(2) or read(2), -EINVAL when it is no regular file, -EFBIG when it is too long.
 */
int s3_secret_file_read(const struct s3_secret_file *file, char **text, size_t *len);

/* Wipes @len bytes and frees. Accepts NULL. */
void s3_secret_free(char *text, size_t len);

/* The same for a string. */
void s3_secret_string_free(char *string);

#endif
