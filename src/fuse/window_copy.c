/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls memfd_create ftruncate fcntl mmap munmap close */
#include "fuse/window_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/iov.h"
#include "base/util.h"

/* Written back at once: as many pages in a row. */
#define WRITE_BACK_PAGES 32u

static const struct fs_window_ops *copy_ops(const struct window_copy *copy)
{
	return copy->session->fs->ops->window;
}

/* Not against somebody who means to collide: only the guest's own data is at stake. */
static uint64_t page_sum(const unsigned char *page)
{
	uint64_t sum = 0x9e3779b97f4a7c15ull, word;

	for (unsigned i = 0; i < WINDOW_COPY_PAGE; i += sizeof(word)) {
		memcpy(&word, page + i, sizeof(word));
		sum = (sum ^ word) * 0xff51afd7ed558ccdull;
		sum ^= sum >> 32;
	}
	return sum;
}

/* ---- Life ---- */

static int copy_make_memory(struct window_copy *copy)
{
	copy->fd = memfd_create("ovfs-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy->fd < 0)
		return -errno;
	if (ftruncate(copy->fd, (off_t)copy->length) < 0 ||
	    fcntl(copy->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	copy->map = mmap(NULL, copy->length, PROT_READ | PROT_WRITE, MAP_SHARED, copy->fd, 0);
	if (copy->map == MAP_FAILED) {
		copy->map = NULL;
		return -errno;
	}
	return 0;
}

/* Reads up to @size bytes; the rest of @buf is left as it is. */
static ssize_t copy_read(struct window_copy *copy, unsigned char *buf, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = copy_ops(copy)->read(copy->session, &copy->file, buf + done,
						 size - done, offset + done);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int window_copy_new(struct window_copy **out, struct fs_session *session,
		    struct fs_window_file *file, uint64_t offset, uint64_t length)
{
	struct window_copy *copy = calloc(1, sizeof(*copy));
	int ret;

	if (!copy) {
		session->fs->ops->window->close(session, file);
		return -ENOMEM;
	}
	list_init(&copy->entry);
	pthread_mutex_init(&copy->lock, NULL);
	copy->refs = 1;
	copy->session = session;
	copy->file = *file;
	copy->offset = offset;
	copy->length = length;
	ret = copy_make_memory(copy);
	if (ret < 0) {
		window_copy_free(copy);
		return ret;
	}
	*out = copy;
	return 0;
}

int window_copy_fill(struct window_copy *copy)
{
	ssize_t n;

	pthread_mutex_lock(&copy->lock);
	n = copy_read(copy, copy->map, copy->length, copy->offset);
	pthread_mutex_unlock(&copy->lock);
	return (int)MIN(n, (ssize_t)0);
}

void window_copy_free(struct window_copy *copy)
{
	copy_ops(copy)->close(copy->session, &copy->file);
	if (copy->map)
		munmap(copy->map, copy->length);
	if (copy->fd >= 0)
		close(copy->fd);
	free(copy->sums);
	pthread_mutex_destroy(&copy->lock);
	free(copy);
}

/* ---- What the guest writes ---- */

int window_copy_make_writable(struct window_copy *copy, uint64_t nodeid)
{
	const size_t pages = copy->length / WINDOW_COPY_PAGE;
	struct fs_window_file file;
	int ret = 0;

	pthread_mutex_lock(&copy->lock);
	if (!copy->sums && !copy->file.writable) {
		ret = copy_ops(copy)->open(copy->session, nodeid, true, copy->length, &file);
		if (ret == 0) {
			copy_ops(copy)->close(copy->session, &copy->file);
			copy->file = file;
		}
	}
	if (ret == 0 && !copy->sums) {
		copy->sums = malloc(pages * sizeof(*copy->sums));
		if (!copy->sums)
			ret = -ENOMEM;
		for (size_t i = 0; i < pages && ret == 0; i++)
			copy->sums[i] = page_sum(copy->map + i * WINDOW_COPY_PAGE);
	}
	pthread_mutex_unlock(&copy->lock);
	return ret;
}

static int copy_write(struct window_copy *copy, const unsigned char *buf, size_t size,
		      uint64_t offset)
{
	while (size) {
		ssize_t n = copy_ops(copy)->write(copy->session, &copy->file, buf, size, offset);

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
static int copy_write_run(struct window_copy *copy, size_t first, unsigned char *buf)
{
	const size_t pages = copy->length / WINDOW_COPY_PAGE;
	uint64_t sums[WRITE_BACK_PAGES];
	unsigned n = 0;
	int ret;

	while (n < WRITE_BACK_PAGES && first + n < pages) {
		unsigned char *page = buf + n * WINDOW_COPY_PAGE;

		memcpy(page, copy->map + (first + n) * WINDOW_COPY_PAGE, WINDOW_COPY_PAGE);
		sums[n] = page_sum(page);
		if (sums[n] == copy->sums[first + n])
			break;
		n++;
	}
	if (n == 0)
		return 1;
	ret = copy_write(copy, buf, n * WINDOW_COPY_PAGE, copy->offset + first * WINDOW_COPY_PAGE);
	if (ret < 0)
		return ret;
	memcpy(copy->sums + first, sums, n * sizeof(*sums));
	return (int)n;
}

/* Under the lock. */
static int copy_write_back(struct window_copy *copy)
{
	const size_t pages = copy->length / WINDOW_COPY_PAGE;
	unsigned char *buf;
	int n = 0;

	if (!copy->sums)
		return 0;
	buf = malloc(WRITE_BACK_PAGES * WINDOW_COPY_PAGE);
	if (!buf)
		return -ENOMEM;
	copy->raced |= copy->writers > 0;
	for (size_t i = 0; i < pages && n >= 0; i += (size_t)MAX(n, 0))
		n = copy_write_run(copy, i, buf);
	free(buf);
	return MIN(n, 0);
}

int window_copy_write_back(struct window_copy *copy)
{
	int ret;

	pthread_mutex_lock(&copy->lock);
	ret = copy_write_back(copy);
	pthread_mutex_unlock(&copy->lock);
	return ret;
}

/* ---- What becomes of the file ---- */

/* Puts @size bytes, zeros when @data is NULL, at @at of page @page, which stays as clean or dirty
 * as it was. Under the lock. */
static void copy_patch_page(struct window_copy *copy, size_t page, unsigned at, unsigned size,
			    struct iov_cursor *data)
{
	unsigned char *p = copy->map + page * WINDOW_COPY_PAGE;
	bool dirty = copy->sums && (copy->raced || page_sum(p) != copy->sums[page]);

	if (data)
		iov_read(data, p + at, size);
	else
		memset(p + at, 0, size);
	if (copy->sums)
		copy->sums[page] = dirty ? ~page_sum(p) : page_sum(p);
}

void window_copy_begin_change(struct window_copy *copy)
{
	pthread_mutex_lock(&copy->lock);
	copy->writers++;
	pthread_mutex_unlock(&copy->lock);
}

void window_copy_end_change(struct window_copy *copy, uint64_t offset, uint64_t size,
			    const struct iov_cursor *data)
{
	const uint64_t end = copy->offset + copy->length;
	const uint64_t from = MAX(offset, copy->offset);
	const uint64_t to = MIN(size > UINT64_MAX - offset ? UINT64_MAX : offset + size, end);
	struct iov_cursor c;

	if (data) {
		c = *data;
		iov_skip(&c, from - offset);
	}
	pthread_mutex_lock(&copy->lock);
	for (uint64_t at = from; at < to;) {
		const uint64_t in_copy = at - copy->offset;
		const unsigned in_page = (unsigned)(in_copy % WINDOW_COPY_PAGE);
		const unsigned n = (unsigned)MIN((uint64_t)(WINDOW_COPY_PAGE - in_page), to - at);

		copy_patch_page(copy, (size_t)(in_copy / WINDOW_COPY_PAGE), in_page, n,
				data ? &c : NULL);
		at += n;
	}
	if (copy->writers > 0 && --copy->writers == 0)
		copy->raced = false;
	pthread_mutex_unlock(&copy->lock);
}

int window_copy_refresh(struct window_copy *copy)
{
	const size_t pages = copy->length / WINDOW_COPY_PAGE;
	unsigned char *buf = malloc(copy->length);
	ssize_t n;
	int ret;

	if (!buf)
		return -ENOMEM;
	pthread_mutex_lock(&copy->lock);
	ret = copy_write_back(copy);
	if (copy_ops(copy)->reopened)
		copy_ops(copy)->reopened(copy->session, copy->nodeid, &copy->file);
	n = ret < 0 ? ret : copy_read(copy, buf, copy->length, copy->offset);
	if (n >= 0)
		memset(buf + n, 0, copy->length - (size_t)n);
	for (size_t i = 0; i < pages && n >= 0; i++) {
		unsigned char *page = copy->map + i * WINDOW_COPY_PAGE;
		const unsigned char *now = buf + i * WINDOW_COPY_PAGE;

		if (memcmp(page, now, WINDOW_COPY_PAGE) == 0)
			continue;
		/* The guest wrote to it just now: that is younger. */
		if (copy->sums && page_sum(page) != copy->sums[i])
			continue;
		memcpy(page, now, WINDOW_COPY_PAGE);
		if (copy->sums)
			copy->sums[i] = page_sum(page);
	}
	pthread_mutex_unlock(&copy->lock);
	free(buf);
	return n < 0 ? (int)n : 0;
}
