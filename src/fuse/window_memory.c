/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls memfd_create ftruncate fcntl mmap munmap close */
#include "fuse/window_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/list.h"
#include "base/util.h"

/* Written back at once: as many pages in a row. */
#define WRITE_BACK_PAGES 32u

#define REGISTRY_BUCKETS 256u

struct window_memory {
	struct list entry; /* of the registry; its lock */
	unsigned refs;	   /* its lock */
	struct fs_window_share share;
	_Atomic bool joined; /* by a second guest */

	/* Constant. */
	uint64_t offset, length;
	int fd;
	bool sealed;
	unsigned char *map;

	pthread_mutex_t lock;
	struct fs_window_file file; /* open as long as the memory is there */
	bool filled;
	uint64_t version;  /* of the file, when it was last read; 0: not known */
	uint64_t *sums;	   /* one for each page; NULL: not written to */
	unsigned changing; /* changes of the file under way */
	bool raced;	   /* was written back during one */
};

/* Memory that can be shared, of all sessions. Bounded by the windows of guests. */
static struct list registry[REGISTRY_BUCKETS];
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;

static const struct fs_window_ops *memory_ops(const struct window_memory *m)
{
	return m->file.fs->ops->window;
}

/* Not against somebody who means to collide: only what a guest may change is at stake. */
static uint64_t page_sum(const unsigned char *page)
{
	uint64_t sum = 0x9e3779b97f4a7c15ull, word;

	for (unsigned i = 0; i < WINDOW_MEMORY_PAGE; i += sizeof(word)) {
		memcpy(&word, page + i, sizeof(word));
		sum = (sum ^ word) * 0xff51afd7ed558ccdull;
		sum ^= sum >> 32;
	}
	return sum;
}

static size_t memory_pages(const struct window_memory *m)
{
	return m->length / WINDOW_MEMORY_PAGE;
}

static unsigned char *memory_page(const struct window_memory *m, size_t page)
{
	return m->map + page * WINDOW_MEMORY_PAGE;
}

/* ---- The registry; these under its lock ---- */

static struct list *registry_bucket(const struct fs_window_share *share, uint64_t offset)
{
	uint64_t hash = share->number[0] * 31 + share->number[1] * 17 + offset / WINDOW_MEMORY_PAGE;
	struct list *bucket = &registry[(hash ^ hash >> 9 ^ hash >> 21) % REGISTRY_BUCKETS];

	if (!bucket->next)
		list_init(bucket);
	return bucket;
}

static bool share_none(const struct fs_window_share *share)
{
	return !share->fs;
}

static bool share_equal(const struct fs_window_share *a, const struct fs_window_share *b)
{
	return a->fs == b->fs && a->number[0] == b->number[0] && a->number[1] == b->number[1];
}

static struct window_memory *registry_find(const struct fs_window_file *file, uint64_t offset,
					   uint64_t length)
{
	struct list *bucket = registry_bucket(&file->share, offset), *pos;

	list_for_each (pos, bucket) {
		struct window_memory *m = list_entry(pos, struct window_memory, entry);

		if (m->offset == offset && m->length == length && m->sealed == !file->writable &&
		    share_equal(&m->share, &file->share))
			return m;
	}
	return NULL;
}

static void registry_add(struct window_memory *m, const struct fs_window_share *share)
{
	m->share = *share;
	if (!share_none(share))
		list_push_back(registry_bucket(share, m->offset), &m->entry);
}

static void registry_remove(struct window_memory *m)
{
	list_remove(&m->entry);
	list_init(&m->entry);
}

/* ---- Life ---- */

static int memory_allocate(struct window_memory *m)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	m->fd = memfd_create("ovfs-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->fd < 0 || ftruncate(m->fd, (off_t)m->length) < 0)
		return -errno;
	m->map = mmap(NULL, m->length, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (m->map == MAP_FAILED) {
		m->map = NULL;
		return -errno;
	}
	/* What is mapped here stays writable; nothing else is. */
	if (m->sealed)
		seals |= F_SEAL_FUTURE_WRITE;
	return fcntl(m->fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

static void memory_free(struct window_memory *m)
{
	memory_ops(m)->close(&m->file);
	if (m->map)
		munmap(m->map, m->length);
	if (m->fd >= 0)
		close(m->fd);
	free(m->sums);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* Closes @file on failure. */
static int memory_new(struct window_memory **out, struct fs_window_file *file, uint64_t offset,
		      uint64_t length, bool own)
{
	const struct fs_window_ops *ops = file->fs->ops->window;
	struct window_memory *m = calloc(1, sizeof(*m));
	int ret = 0;

	if (!m) {
		ops->close(file);
		return -ENOMEM;
	}
	list_init(&m->entry);
	pthread_mutex_init(&m->lock, NULL);
	m->refs = 1;
	m->file = *file;
	m->fd = -1;
	m->offset = offset;
	m->length = length;
	m->sealed = !own && !file->writable && !share_none(&file->share);
	if (ops->reserve)
		ret = ops->reserve(&m->file, length);
	if (ret == 0)
		ret = memory_allocate(m);
	if (ret < 0) {
		memory_free(m);
		return ret;
	}
	*out = m;
	return 0;
}

int window_memory_get(struct window_memory **out, struct fs_window_file *file, uint64_t offset,
		      uint64_t length, bool own)
{
	struct window_memory *m = NULL;
	int ret;

	if (own || share_none(&file->share))
		return memory_new(out, file, offset, length, own);
	pthread_mutex_lock(&registry_lock);
	m = registry_find(file, offset, length);
	if (m) {
		m->refs++;
		atomic_store(&m->joined, true);
	}
	pthread_mutex_unlock(&registry_lock);
	if (m) {
		file->fs->ops->window->close(file);
		*out = m;
		return 0;
	}
	ret = memory_new(&m, file, offset, length, false);
	if (ret < 0)
		return ret;
	/* Two may be there at the same time, and then both are. */
	pthread_mutex_lock(&registry_lock);
	registry_add(m, &m->file.share);
	pthread_mutex_unlock(&registry_lock);
	*out = m;
	return 0;
}

void window_memory_put(struct window_memory *m)
{
	bool last;

	pthread_mutex_lock(&registry_lock);
	last = --m->refs == 0;
	if (last)
		registry_remove(m);
	pthread_mutex_unlock(&registry_lock);
	if (last)
		memory_free(m);
}

int window_memory_fd(const struct window_memory *m)
{
	return m->fd;
}

bool window_memory_sealed(const struct window_memory *m)
{
	return m->sealed;
}

bool window_memory_writable(struct window_memory *m)
{
	bool writable;

	pthread_mutex_lock(&m->lock);
	writable = m->file.writable;
	pthread_mutex_unlock(&m->lock);
	return writable;
}

/* ---- Reading; under the lock ---- */

/* Reads up to @size bytes; the rest of @buf is left as it is. */
static ssize_t memory_read(struct window_memory *m, unsigned char *buf, size_t size,
			   uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = memory_ops(m)->read(&m->file, buf + done, size - done, offset + done);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static uint64_t memory_version(struct window_memory *m)
{
	return memory_ops(m)->version ? memory_ops(m)->version(&m->file) : 0;
}

/* Nobody has changed the file since it was read. */
static bool memory_is_current(struct window_memory *m)
{
	return m->version && memory_version(m) == m->version;
}

static int memory_sum_all(struct window_memory *m)
{
	if (m->sums)
		return 0;
	m->sums = malloc(memory_pages(m) * sizeof(*m->sums));
	if (!m->sums)
		return -ENOMEM;
	for (size_t i = 0; i < memory_pages(m); i++)
		m->sums[i] = page_sum(memory_page(m, i));
	return 0;
}

/* Takes what the file has, but for pages that were written to since. */
static int memory_reread(struct window_memory *m)
{
	const uint64_t version = memory_version(m);
	unsigned char *buf = malloc(m->length);
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	n = memory_read(m, buf, m->length, m->offset);
	if (n >= 0) {
		memset(buf + n, 0, m->length - (size_t)n);
		m->version = version;
	}
	for (size_t i = 0; i < memory_pages(m) && n >= 0; i++) {
		unsigned char *page = memory_page(m, i);
		const unsigned char *now = buf + i * WINDOW_MEMORY_PAGE;

		if (memcmp(page, now, WINDOW_MEMORY_PAGE) == 0)
			continue;
		/* The guest wrote to it just now: that is younger. */
		if (m->sums && page_sum(page) != m->sums[i])
			continue;
		memcpy(page, now, WINDOW_MEMORY_PAGE);
		if (m->sums)
			m->sums[i] = page_sum(page);
	}
	free(buf);
	return (int)MIN(n, (ssize_t)0);
}

static int memory_fill_first(struct window_memory *m)
{
	ssize_t n;

	m->version = memory_version(m);
	n = memory_read(m, m->map, m->length, m->offset);
	m->filled = n >= 0;
	return (int)MIN(n, (ssize_t)0);
}

int window_memory_fill(struct window_memory *m)
{
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	if (!m->filled)
		ret = memory_fill_first(m);
	else if (!m->sums && !m->sealed)
		/* What its first guest has stored without asking, the second does not see. */
		ret = memory_reread(m);
	if (ret == 0 && !m->sealed && atomic_load(&m->joined))
		ret = memory_sum_all(m);
	pthread_mutex_unlock(&m->lock);
	return ret;
}

/* ---- What a guest writes ---- */

int window_memory_make_writable(struct window_memory *m, struct fs_session *session,
				uint64_t nodeid)
{
	struct fs_window_file file;
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	if (!m->file.writable) {
		ret = session->fs->ops->window->open(session, nodeid, true, &file);
		if (ret == 0) {
			/* What was reserved goes with the file that it was reserved for. */
			if (file.fs->ops->window->reserve)
				ret = file.fs->ops->window->reserve(&file, m->length);
			if (ret < 0) {
				file.fs->ops->window->close(&file);
			} else {
				memory_ops(m)->close(&m->file);
				m->file = file;
			}
		}
	}
	if (ret == 0)
		ret = memory_sum_all(m);
	pthread_mutex_unlock(&m->lock);
	return ret;
}

static int memory_write(struct window_memory *m, const unsigned char *buf, size_t size,
			uint64_t offset)
{
	while (size) {
		ssize_t n = memory_ops(m)->write(&m->file, buf, size, offset);

		if (n <= 0)
			return (int)n; /* 0: the file ends here */
		buf += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/*
 * Writes back the pages from @first on that differ from what they were, as far as they are in a
 * row and @buf holds them. The number of pages looked at, or negative errno. A page is
 * taken once, as the guest may go on writing to it.
 */
static int memory_write_run(struct window_memory *m, size_t first, unsigned char *buf)
{
	const size_t pages = memory_pages(m);
	uint64_t sums[WRITE_BACK_PAGES];
	unsigned n = 0;
	int ret;

	while (n < WRITE_BACK_PAGES && first + n < pages) {
		unsigned char *page = buf + n * WINDOW_MEMORY_PAGE;

		memcpy(page, memory_page(m, first + n), WINDOW_MEMORY_PAGE);
		sums[n] = page_sum(page);
		if (sums[n] == m->sums[first + n])
			break;
		n++;
	}
	if (n == 0)
		return 1;
	m->version = 0;
	ret = memory_write(m, buf, n * WINDOW_MEMORY_PAGE, m->offset + first * WINDOW_MEMORY_PAGE);
	if (ret < 0)
		return ret;
	memcpy(m->sums + first, sums, n * sizeof(*sums));
	return (int)n;
}

static int memory_write_back(struct window_memory *m)
{
	const size_t pages = memory_pages(m);
	unsigned char *buf;
	int n = 0;

	if (!m->sums)
		return 0;
	buf = malloc(WRITE_BACK_PAGES * WINDOW_MEMORY_PAGE);
	if (!buf)
		return -ENOMEM;
	m->raced |= m->changing > 0;
	for (size_t i = 0; i < pages && n >= 0; i += (size_t)MAX(n, 0))
		n = memory_write_run(m, i, buf);
	free(buf);
	return MIN(n, 0);
}

int window_memory_write_back(struct window_memory *m)
{
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = memory_write_back(m);
	pthread_mutex_unlock(&m->lock);
	return ret;
}

/* ---- What becomes of the file ---- */

/* Puts @size bytes, zeros when @data is NULL, at @at of page @page, which stays as clean or dirty
 * as it was; @raced: it is dirty. Under the lock. */
static void memory_patch_page(struct window_memory *m, size_t page, unsigned at, unsigned size,
			      struct iov_cursor *data, bool raced)
{
	unsigned char *p = memory_page(m, page);
	bool dirty = m->sums && (raced || page_sum(p) != m->sums[page]);

	if (data)
		iov_read(data, p + at, size);
	else
		memset(p + at, 0, size);
	if (m->sums)
		m->sums[page] = dirty ? ~page_sum(p) : page_sum(p);
}

void window_memory_begin_change(struct window_memory *m, unsigned *begun)
{
	pthread_mutex_lock(&m->lock);
	m->changing++;
	(*begun)++;
	pthread_mutex_unlock(&m->lock);
}

void window_memory_end_change(struct window_memory *m, unsigned *begun, uint64_t offset,
			      uint64_t size, const struct iov_cursor *data)
{
	const uint64_t end = m->offset + m->length;
	const uint64_t from = MAX(offset, m->offset);
	const uint64_t to = MIN(size > UINT64_MAX - offset ? UINT64_MAX : offset + size, end);
	struct iov_cursor c;
	bool raced;

	if (data) {
		c = *data;
		iov_skip(&c, from - offset);
	}
	pthread_mutex_lock(&m->lock);
	/* Whether we were written back during a change that we did not know of, nobody can say.
	 * Where the file was cut there is nothing to write back. */
	raced = m->raced || (!begun && size != UINT64_MAX);
	for (uint64_t at = from; at < to;) {
		const uint64_t in_memory = at - m->offset;
		const unsigned in_page = (unsigned)(in_memory % WINDOW_MEMORY_PAGE);
		const unsigned n = (unsigned)MIN((uint64_t)(WINDOW_MEMORY_PAGE - in_page), to - at);

		memory_patch_page(m, (size_t)(in_memory / WINDOW_MEMORY_PAGE), in_page, n,
				  data ? &c : NULL, raced);
		at += n;
	}
	if (begun) {
		--*begun;
		if (--m->changing == 0)
			m->raced = false;
	}
	pthread_mutex_unlock(&m->lock);
}

void window_memory_end_changes(struct window_memory *m, unsigned begun)
{
	pthread_mutex_lock(&m->lock);
	m->changing -= begun;
	m->raced &= m->changing > 0;
	pthread_mutex_unlock(&m->lock);
}

/* The file of the version that guests see now. What it was known by may be another file's
 * as soon as it is closed: nobody is to find us by it then. */
static void memory_reopen(struct window_memory *m)
{
	if (!memory_ops(m)->reopened)
		return;
	pthread_mutex_lock(&registry_lock);
	registry_remove(m);
	pthread_mutex_unlock(&registry_lock);
	memory_ops(m)->reopened(&m->file);
	pthread_mutex_lock(&registry_lock);
	if (!share_none(&m->share))
		registry_add(m, &m->file.share);
	pthread_mutex_unlock(&registry_lock);
}

int window_memory_refresh(struct window_memory *m)
{
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = memory_write_back(m);
	memory_reopen(m);
	if (ret == 0 && m->filled && !memory_is_current(m))
		ret = memory_reread(m);
	pthread_mutex_unlock(&m->lock);
	return ret;
}
