/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "conf/files_priv.h"

/* The memory that the cgroup (v2) of the process may use, or UINT64_MAX. */
static uint64_t memory_limit(void)
{
	CLEANUP_FREE char *path = NULL, *group = NULL;
	unsigned long long limit = UINT64_MAX;
	char line[4096];
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "0::", 3) == 0 && !group)
			group = strndup(line + 3, strcspn(line + 3, "\n"));
	}
	if (f)
		fclose(f);
	if (!group || asprintf(&path, "/sys/fs/cgroup%s/memory.max", group) < 0)
		return UINT64_MAX;
	f = fopen(path, "re");
	if (f && fscanf(f, "%llu", &limit) != 1) /* "max" */
		limit = UINT64_MAX;
	if (f)
		fclose(f);
	return limit;
}

struct conf_files *conf_files_new(void)
{
	struct conf_files *files = calloc(1, sizeof(*files));
	uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	if (!files)
		return NULL;
	files->memory = MIN(memory, memory_limit());
	files->here = getcwd(NULL, 0);
	if (!files->here)
		files->here = strdup("/");
	if (!files->here) {
		free(files);
		return NULL;
	}
	return files;
}

static void file_clear(struct conf_file *file)
{
	if (file->text)
		explicit_bzero(file->text, file->len);
	free(file->text);
	free(file->path);
	free(file);
}

void conf_files_free(struct conf_files *files)
{
	if (!files)
		return;
	for (size_t i = 0; i < files->count; i++)
		file_clear(files->file[i]);
	free(files->file);
	free(files->here);
	free(files);
}

struct conf_file *conf_files_add(struct conf_files *files, enum conf_file_kind kind,
				 const char *path)
{
	struct conf_file **grown, *file;

	if (files->count == CONF_FILES_MAX)
		return NULL;
	grown = reallocarray(files->file, files->count + 1, sizeof(struct conf_file *));
	if (!grown)
		return NULL;
	files->file = grown;
	file = calloc(1, sizeof(*file));
	if (!file)
		return NULL;
	file->kind = kind;
	file->path = strdup(path);
	if (!file->path) {
		free(file);
		return NULL;
	}
	return files->file[files->count++] = file;
}

static struct conf_file *conf_files_find(const struct conf_files *files, enum conf_file_kind kind,
					 const char *path)
{
	for (size_t i = 0; i < files->count; i++) {
		if (files->file[i]->kind == kind && strcmp(files->file[i]->path, path) == 0)
			return files->file[i];
	}
	return NULL;
}

/* The entry, and in *@fresh whether it is to be filled from the host now. */
static struct conf_file *conf_files_get(struct conf_files *files, enum conf_file_kind kind,
					const char *path, bool *fresh)
{
	struct conf_file *file = conf_files_find(files, kind, path);

	*fresh = false;
	if (file)
		return file;
	file = conf_files_add(files, kind, path);
	if (file && files->sealed)
		file->error = EACCES;
	else if (file)
		*fresh = true;
	return file;
}

static int file_read(struct conf_file *file, size_t max)
{
	/* A fifo whose other end nobody opens would hold up whoever waits for us. */
	CLEANUP_CLOSE int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	char *fit;
	ssize_t n;

	if (fd < 0)
		return errno;
	if (fstat(fd, &st) < 0)
		return errno;
	if (S_ISDIR(st.st_mode))
		return EISDIR;
	if (!S_ISREG(st.st_mode))
		return ENXIO;
	file->exposed = st.st_mode & S_IROTH;
	file->dev = st.st_dev;
	file->id = st.st_ino;
	file->text = malloc(max + 2); /* a byte too many, and the NUL */
	if (!file->text)
		return ENOMEM;
	while (file->len <= max) {
		n = read(fd, file->text + file->len, max + 1 - file->len);
		if (n > 0)
			file->len += (size_t)n;
		else if (n == 0)
			break;
		else if (errno != EINTR)
			return errno;
	}
	file->text[file->len] = '\0';
	fit = realloc(file->text, file->len + 1);
	if (fit)
		file->text = fit;
	return 0;
}

const char *conf_file_strerror(int error)
{
	return error == ENXIO ? "it is no regular file" : strerror(error);
}

const struct conf_file *conf_files_read(struct conf_files *files, const char *path, size_t max)
{
	bool fresh;
	struct conf_file *file = conf_files_get(files, CONF_FILE, path, &fresh);

	if (!file || !fresh)
		return file;
	file->error = file_read(file, max);
	if (file->error && file->text) {
		explicit_bzero(file->text, file->len);
		free(file->text);
		file->text = NULL;
		file->len = 0;
	}
	return file;
}

static int is_toml(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	/* Hidden ones are what editors leave behind, and Kubernetes' data. */
	return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".toml") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int file_list(struct conf_file *file)
{
	struct dirent **names;
	int count = scandir(file->path, &names, is_toml, by_name), error = 0;
	FILE *out;

	if (count < 0)
		return errno;
	out = open_memstream(&file->text, &file->len);
	if (!out)
		error = errno;
	for (int i = 0; i < count; i++) {
		if (out)
			fwrite(names[i]->d_name, 1, strlen(names[i]->d_name) + 1, out);
		free(names[i]);
	}
	free(names);
	return out && fclose(out) != 0 ? ENOMEM : error;
}

const struct conf_file *conf_files_list(struct conf_files *files, const char *path)
{
	bool fresh;
	struct conf_file *file = conf_files_get(files, CONF_FOLDER, path, &fresh);

	if (file && fresh)
		file->error = file_list(file);
	return file;
}

const struct conf_file *conf_files_group(struct conf_files *files, const char *name)
{
	bool fresh;
	struct conf_file *file = conf_files_get(files, CONF_GROUP, name, &fresh);
	const struct group *group;

	if (!file || !fresh)
		return file;
	group = getgrnam(name);
	if (group)
		file->id = group->gr_gid;
	else
		file->error = ENOENT;
	return file;
}

const char *conf_files_here(const struct conf_files *files)
{
	return files->here;
}

uint64_t conf_files_memory(const struct conf_files *files)
{
	return files->memory;
}

void conf_files_seal(struct conf_files *files)
{
	files->sealed = true;
}

bool conf_files_sealed(const struct conf_files *files)
{
	return files->sealed;
}

size_t conf_files_count(const struct conf_files *files)
{
	return files->count;
}

const struct conf_file *conf_files_at(const struct conf_files *files, size_t index)
{
	return files->file[index];
}

static bool file_equal(const struct conf_file *a, const struct conf_file *b)
{
	return a->kind == b->kind && strcmp(a->path, b->path) == 0 && a->error == b->error &&
	       a->exposed == b->exposed && a->len == b->len &&
	       (a->len == 0 || memcmp(a->text, b->text, a->len) == 0) &&
	       (a->kind != CONF_GROUP || a->id == b->id);
}

bool conf_files_equal(const struct conf_files *a, const struct conf_files *b)
{
	if (a->count != b->count || a->memory != b->memory)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (!file_equal(a->file[i], b->file[i]))
			return false;
	}
	return true;
}
