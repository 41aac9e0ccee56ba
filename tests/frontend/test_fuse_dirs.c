/* SPDX-License-Identifier: Apache-2.0 */
/* Directory streams: offsets, sizes, changes in between, lookups of READDIRPLUS. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT 300u

/* Entries as they came, with the offset to go on from. */
struct listing {
	unsigned int n;
	struct {
		char name[64];
		uint64_t off, ino, node;
		uint32_t type;
	} e[COUNT + 50];
};

static struct fuc *fuse(void **state)
{
	return &((struct guest *)*state)->f;
}

static void make_files(void **state, unsigned int n)
{
	struct guest *g = *state;

	for (unsigned int i = 0; i < n; i++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "entry-%03u", i);
		fd = open(daemon_path(g->d, name), O_CREAT | O_WRONLY, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
}

static void parse(struct listing *l, const uint8_t *p, int len, bool plus)
{
	while (len > 0) {
		const struct fuse_direntplus *dp = (const void *)p;
		const struct fuse_dirent *d = plus ? &dp->dirent : (const void *)p;
		int n = (int)(plus ? FUSE_DIRENTPLUS_SIZE(dp) : FUSE_DIRENT_SIZE(d));

		assert_true(n <= len);
		assert_true(d->namelen > 0 && d->namelen < 64);
		assert_true(l->n < COUNT + 50);
		memcpy(l->e[l->n].name, d->name, d->namelen);
		l->e[l->n].name[d->namelen] = '\0';
		assert_null(memchr(d->name, '/', d->namelen));
		assert_null(memchr(d->name, '\0', d->namelen));
		l->e[l->n].off = d->off;
		l->e[l->n].ino = d->ino;
		l->e[l->n].type = d->type;
		l->e[l->n].node = plus ? dp->entry_out.nodeid : 0;
		if (plus && dp->entry_out.nodeid)
			assert_int_equal(dp->entry_out.attr.ino, d->ino);
		l->n++;
		p += n;
		len -= n;
	}
	assert_int_equal(len, 0);
}

static void list(void **state, uint64_t fh, uint64_t off, uint32_t size, bool plus,
		 struct listing *l)
{
	uint8_t *buf = malloc(size);
	int n;

	l->n = 0;
	while ((n = (plus ? fuc_readdirplus : fuc_readdir)(fuse(state), FUSE_ROOT_ID, fh, off, buf,
							   size)) > 0) {
		parse(l, buf, n, plus);
		off = l->e[l->n - 1].off;
	}
	free(buf);
	assert_int_equal(n, 0);
}

static unsigned int times(const struct listing *l, const char *name)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < l->n; i++)
		n += strcmp(l->e[i].name, name) == 0;
	return n;
}

static void assert_complete(const struct listing *l, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		char name[32];

		snprintf(name, sizeof(name), "entry-%03u", i);
		assert_int_equal(times(l, name), 1);
	}
	assert_int_equal(l->n, count + 2);
	assert_int_equal(times(l, "."), 1);
	assert_int_equal(times(l, ".."), 1);
}

static void every_entry_comes_once(void **state)
{
	static const uint32_t sizes[] = { 128, 1000, 4096, 65536 };
	struct listing *l = malloc(sizeof(*l));
	uint64_t fh;

	make_files(state, COUNT);
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &fh));
	for (size_t i = 0; i < 4; i++) {
		list(state, fh, 0, sizes[i], false, l);
		assert_complete(l, COUNT);
	}
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, fh));
	free(l);
}

static void offsets_are_places_to_return_to(void **state)
{
	struct listing *all = malloc(sizeof(*all)), *rest = malloc(sizeof(*rest));
	uint64_t fh;

	make_files(state, 50);
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &fh));
	list(state, fh, 0, 4096, false, all);
	/* Backwards, so that each one is a seek. */
	for (unsigned int i = all->n; i-- > 0;) {
		list(state, fh, all->e[i].off, 4096, false, rest);
		assert_int_equal(rest->n, all->n - i - 1);
		for (unsigned int k = 0; k < rest->n; k++)
			assert_string_equal(rest->e[k].name, all->e[i + 1 + k].name);
	}
	/* The offset of one stream means the same in another. */
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, fh));
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &fh));
	list(state, fh, all->e[20].off, 4096, false, rest);
	assert_int_equal(rest->n, all->n - 21);
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, fh));
	free(all);
	free(rest);
}

static void too_small_a_buffer_is_an_error(void **state)
{
	uint8_t buf[32];
	uint64_t fh;
	int n;

	make_files(state, 1);
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &fh));
	/* 24 bytes and a name do not fit 24 bytes: 0 would mean the end. */
	n = fuc_readdir(fuse(state), FUSE_ROOT_ID, fh, 0, buf, 24);
	assert_int_equal(n, -EINVAL);
	n = fuc_readdirplus(fuse(state), FUSE_ROOT_ID, fh, 0, buf, 32);
	assert_int_equal(n, -EINVAL);
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, fh));
}

static void plus_looks_up(void **state)
{
	struct listing *l = malloc(sizeof(*l));
	uint64_t fh;
	unsigned int looked_up = 0;

	make_files(state, COUNT);
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &fh));
	list(state, fh, 0, 4096, true, l);
	assert_complete(l, COUNT);
	for (unsigned int i = 0; i < l->n; i++) {
		struct fuse_attr attr;

		if (!l->e[i].node || l->e[i].name[0] == '.')
			continue;
		looked_up++;
		assert_ok(fuc_getattr(fuse(state), l->e[i].node, &attr));
		assert_int_equal(attr.ino, l->e[i].ino);
		assert_int_equal(l->e[i].type, DT_REG);
		assert_ok(fuc_forget(fuse(state), l->e[i].node, 1));
	}
	assert_int_equal(looked_up, COUNT);
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, fh));
	free(l);
}

static void changes_do_not_disturb_the_others(void **state)
{
	struct guest *g = *state;
	struct listing *l = malloc(sizeof(*l)), *part = malloc(sizeof(*part));
	uint8_t buf[1024];
	uint64_t fh;
	int n;

	make_files(state, 100);
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &fh));
	part->n = 0;
	n = fuc_readdir(fuse(state), FUSE_ROOT_ID, fh, 0, buf, sizeof(buf));
	assert_true(n > 0);
	parse(part, buf, n, false);
	/* What was listed goes away, as rm -r does it; the rest must still come. */
	for (unsigned int i = 0; i < part->n; i++)
		if (part->e[i].name[0] != '.')
			assert_ok(unlink(daemon_path(g->d, part->e[i].name)));
	list(state, fh, part->e[part->n - 1].off, 1024, false, l);
	for (unsigned int i = 0; i < 100; i++) {
		char name[32];

		snprintf(name, sizeof(name), "entry-%03u", i);
		assert_int_equal(times(l, name) + times(part, name), 1);
	}
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, fh));
	free(l);
	free(part);
}

static void nonsense_offsets_are_harmless(void **state)
{
	static const uint64_t offsets[] = { UINT64_MAX, INT64_MAX, 1ull << 63, 12345678901234ull };
	uint8_t buf[4096];
	uint64_t fh;

	make_files(state, 10);
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &fh));
	for (size_t i = 0; i < 4; i++) {
		/* Any answer will do, as long as it is one and well formed. */
		struct listing *l = calloc(1, sizeof(*l));
		int n = fuc_readdir(fuse(state), FUSE_ROOT_ID, fh, offsets[i], buf, sizeof(buf));

		assert_true(n != -ETIMEDOUT && n != -EPROTO);
		if (n > 0)
			parse(l, buf, n, false);
		free(l);
	}
	assert_true(fuc_readdir(fuse(state), FUSE_ROOT_ID, fh, 0, buf, sizeof(buf)) > 0);
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, fh));
}

static void handles_of_files_are_no_directories(void **state)
{
	uint8_t buf[512];
	uint64_t fh, dh, node = guest_create(*state, "file", &fh);

	assert_int_equal(fuc_opendir(fuse(state), node, &dh), -ENOTDIR);
	assert_true(fuc_readdir(fuse(state), node, fh, 0, buf, sizeof(buf)) < 0);
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &dh));
	assert_true(fuc_read(fuse(state), FUSE_ROOT_ID, dh, 0, buf, sizeof(buf)) < 0);
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, dh));
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		matrix_test(every_entry_comes_once),
		matrix_test(offsets_are_places_to_return_to),
		matrix_test(too_small_a_buffer_is_an_error),
		matrix_test(plus_looks_up),
		matrix_test(changes_do_not_disturb_the_others),
		matrix_test(nonsense_offsets_are_harmless),
		matrix_test(handles_of_files_are_no_directories),
	};

	return run_matrix("directories", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
