/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "store/services/s3/secret_file.h"

int s3_secret_file_init(struct s3_secret_file *file, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder;

	*file = (struct s3_secret_file){ .folder_fd = -1 };
	file->path = strdup(path);
	if (!file->path)
		return -ENOMEM;
	file->name = slash ? file->path + (slash - path) + 1 : file->path;
	folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	if (!folder) {
		s3_secret_file_destroy(file);
		return -ENOMEM;
	}
	file->folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	return 0;
}

void s3_secret_file_destroy(struct s3_secret_file *file)
{
	if (file->path && file->folder_fd >= 0)
		close(file->folder_fd);
	free(file->path);
	*file = (struct s3_secret_file){ .folder_fd = -1 };
}

/* Up to @size bytes; less only at the end of the file. */
static ssize_t read_full(int fd, char *buf, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, buf + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int s3_secret_file_read(const struct s3_secret_file *file, char **text, size_t *len)
{
	/* Not to hang on a FIFO that lies there by mistake. */
	int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	CLEANUP_CLOSE int fd = -1;
	struct stat st;
	ssize_t n;
	char *buf;

	fd = file->folder_fd >= 0 ? openat(file->folder_fd, file->name, flags)
				  : open(file->path, flags);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size > S3_SECRET_FILE_MAX)
		return -EFBIG;
	/* One byte more than it has, to see whether it grows, and the NUL. */
	buf = calloc(1, (size_t)st.st_size + 2);
	if (!buf)
		return -ENOMEM;
	n = read_full(fd, buf, (size_t)st.st_size + 1);
	if (n < 0 || n > st.st_size) {
		s3_secret_free(buf, (size_t)st.st_size + 2);
		return n < 0 ? (int)n : -EAGAIN; /* being written: half a secret is none */
	}
	*text = buf;
	*len = (size_t)n;
	return 0;
}

void s3_secret_free(char *text, size_t len)
{
	if (!text)
		return;
	OPENSSL_cleanse(text, len);
	free(text);
}

void s3_secret_string_free(char *string)
{
	if (string)
		s3_secret_free(string, strlen(string));
}
