/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot on its way to another process of ours: a head, then for each entry a head,
 * its path and its text. Both ends are the same program.
 *
 * #syscalls pread64
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "conf/files_priv.h"

#define PASS_MAGIC 0x6f766673636f6e66ull
#define PASS_PATH_MAX 65536

struct pass_head {
	uint64_t magic;
	uint64_t count, memory;
	uint64_t here; /* bytes of it, which follow */
};

struct pass_entry {
	uint64_t kind, error, exposed, dev, id;
	uint64_t path, text; /* bytes; text: UINT64_MAX for none */
};

static void pass_write(FILE *out, const void *data, size_t len)
{
	if (len > 0)
		fwrite(data, 1, len, out);
}

static void pass_write_all(const struct conf_files *files, FILE *out)
{
	const struct pass_head head = { PASS_MAGIC, files->count, files->memory,
					strlen(files->here) };

	pass_write(out, &head, sizeof(head));
	pass_write(out, files->here, head.here);
	for (size_t i = 0; i < files->count; i++) {
		const struct conf_file *file = files->file[i];
		const struct pass_entry entry = {
			.kind = file->kind,
			.error = (uint64_t)file->error,
			.exposed = file->exposed,
			.dev = file->dev,
			.id = file->id,
			.path = strlen(file->path),
			.text = file->text ? file->len : UINT64_MAX,
		};

		pass_write(out, &entry, sizeof(entry));
		pass_write(out, file->path, entry.path);
		pass_write(out, file->text, file->len);
	}
}

struct err *conf_files_send(const struct conf_files *files, int *out)
{
	CLEANUP_CLOSE int fd = memfd_create("ovfs-configuration", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *f = copy < 0 ? NULL : fdopen(copy, "w");
	bool failed;

	if (!f) {
		struct err *e = err_errno(errno, "copy of the configuration");

		if (copy >= 0)
			close(copy);
		return e;
	}
	pass_write_all(files, f);
	failed = ferror(f);
	if (fclose(f) != 0 || failed)
		return err_errno(ENOSPC, "copy of the configuration");
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return err_errno(errno, "copy of the configuration");
	*out = STEAL_FD(fd);
	return NULL;
}

struct pass_reader {
	int fd;
	off_t at;
};

static bool pass_read(struct pass_reader *reader, void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(reader->fd, (char *)data + done, len - done, reader->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
		reader->at += n;
	}
	return true;
}

/* @len bytes and a NUL. NULL on failure. */
static char *pass_read_text(struct pass_reader *reader, uint64_t len, uint64_t max)
{
	char *text = len > max ? NULL : malloc(len + 1);

	if (!text)
		return NULL;
	if (!pass_read(reader, text, len)) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

static bool pass_read_entry(struct pass_reader *reader, struct conf_files *files)
{
	CLEANUP_FREE char *path = NULL;
	struct pass_entry entry;
	struct conf_file *file;

	if (!pass_read(reader, &entry, sizeof(entry)) || entry.kind > CONF_GROUP)
		return false;
	path = pass_read_text(reader, entry.path, PASS_PATH_MAX);
	file = path ? conf_files_add(files, (enum conf_file_kind)entry.kind, path) : NULL;
	if (!file)
		return false;
	file->error = (int)entry.error;
	file->exposed = entry.exposed != 0;
	file->dev = entry.dev;
	file->id = entry.id;
	if (entry.text == UINT64_MAX)
		return true;
	file->text = pass_read_text(reader, entry.text, CONF_FILES_BYTES_MAX);
	file->len = file->text ? entry.text : 0;
	return file->text != NULL;
}

struct err *conf_files_receive(struct conf_files **out, int fd)
{
	struct pass_reader reader = { .fd = fd };
	struct conf_files *files = calloc(1, sizeof(*files));
	struct pass_head head = { 0 };
	bool good;

	if (!files)
		return err_errno(ENOMEM, "copy of the configuration");
	files->sealed = true;
	good = pass_read(&reader, &head, sizeof(head)) && head.magic == PASS_MAGIC &&
	       head.count <= CONF_FILES_MAX;
	files->memory = head.memory;
	files->here = good ? pass_read_text(&reader, head.here, PASS_PATH_MAX) : NULL;
	good = files->here != NULL;
	for (uint64_t i = 0; good && i < head.count; i++)
		good = pass_read_entry(&reader, files);
	if (!good) {
		conf_files_free(files);
		return err_new("the copy of the configuration can not be read");
	}
	*out = files;
	return NULL;
}
