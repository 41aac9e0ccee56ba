/* SPDX-License-Identifier: Apache-2.0 */
/* Guests, and the matrix of rings and layouts that tests run over. See harness.h. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct vuc_config guest_default = {
	.queues = 4,
	.queue_size = 128,
	.indirect = true,
	.event_idx = true,
	.indirect_max = 600,
	.mem_size = 64 << 20,
};

static const struct vuc_config foreign_default = {
	.queues = 2,
	.queue_size = 128,
	.indirect = true,
	.event_idx = true,
	.indirect_max = 600,
	.mem_size = 64 << 20,
};

void guest_connect(struct guest *g, struct daemon *d, const struct vuc_config *cfg)
{
	struct fuc_options o = { .requests = 64, .request_mem = 160 << 10 };
	struct vuc_config c = cfg ? *cfg : d->foreign ? foreign_default : guest_default;
	int err;

	memset(g, 0, sizeof(*g));
	g->d = d;
	if (d->foreign && c.queues > 2)
		c.queues = 2;
	if (!c.mem_size || c.mem_size < 16 << 20)
		c.mem_size = 32 << 20;
	err = vuc_open(&g->c, d->socket, &c);
	if (err)
		fail_msg("connect: %s", strerror(-err));
	assert_ok(fuc_open(&g->f, &g->c, &o));
}

void guest_open(struct guest *g, struct daemon *d, const struct vuc_config *cfg)
{
	guest_connect(g, d, cfg);
	assert_ok(fuc_init_default(&g->f));
}

void guest_close(struct guest *g)
{
	fuc_close(&g->f);
	vuc_close(&g->c);
}

void guest_probe(struct daemon *d)
{
	struct guest g;
	struct fuse_attr attr;

	if (!daemon_running(d))
		fail_msg("the daemon has died");
	guest_open(&g, d, NULL);
	assert_ok(fuc_getattr(&g.f, FUSE_ROOT_ID, &attr));
	assert_true((attr.mode & 0170000) == 0040000);
	guest_close(&g);
}

uint64_t guest_create(struct guest *g, const char *name, uint64_t *fh)
{
	struct fuse_entry_out e;

	assert_ok(fuc_create(&g->f, FUSE_ROOT_ID, name, O_RDWR | O_CREAT, 0100644, &e, fh));
	return e.nodeid;
}

void guest_remove(struct guest *g, uint64_t node, const char *name)
{
	assert_ok(fuc_unlink(&g->f, FUSE_ROOT_ID, name));
	assert_ok(fuc_forget(&g->f, node, 1));
}

const struct ring_variant ring_variants[8] = {
	{ "split", false, false, false },	  { "split event_idx", false, false, true },
	{ "split indirect", false, true, false }, { "split indirect event_idx", false, true, true },
	{ "packed", true, false, false },	  { "packed event_idx", true, false, true },
	{ "packed indirect", true, true, false }, { "packed indirect event_idx", true, true, true },
};

struct guest *matrix_guest;
static struct daemon matrix_daemon;
static const struct daemon_options *matrix_options;
static const struct ring_variant *matrix_ring;
static const struct fuc_layout *matrix_layout;
static int matrix_failures;

static int matrix_set_up(void **state)
{
	static struct guest g;
	struct vuc_config cfg = guest_default;

	if (!matrix_daemon.pid)
		daemon_start(&matrix_daemon, matrix_options);
	cfg.packed = matrix_ring->packed;
	cfg.indirect = matrix_ring->indirect;
	cfg.event_idx = matrix_ring->event_idx;
	/* Layouts of many pieces need rings of many descriptors. */
	cfg.queue_size = 1024;
	guest_open(&g, &matrix_daemon, &cfg);
	if (cfg.packed)
		assert_true(g.c.features & VUC_BIT(VIRTIO_F_RING_PACKED));
	g.f.layout = *matrix_layout;
	matrix_guest = &g;
	*state = &g;
	return 0;
}

static int matrix_tear_down(void **state)
{
	(void)state;
	if (!matrix_guest)
		return 0; /* the set-up has said why */
	/* Counted here: cmocka prints what fails in a tear-down, but returns success. */
	if (matrix_guest->f.violations || !daemon_running(&matrix_daemon)) {
		fprintf(stderr, "%s, %s: %s\n", matrix_ring->name, matrix_layout->name,
			matrix_guest->f.violations ? "broken promises" : "the daemon died");
		matrix_failures++;
	}
	guest_close(matrix_guest);
	matrix_guest = NULL;
	/* The one that serves one connection only needs a new process for the next. */
	if (matrix_daemon.foreign)
		daemon_kill(&matrix_daemon), daemon_restart(&matrix_daemon);
	return 0;
}

int matrix_wipe(void **state)
{
	daemon_wipe(&matrix_daemon);
	*state = matrix_guest;
	return 0;
}

static void the_daemon_ends_well(void **state)
{
	(void)state;
	daemon_stop(&matrix_daemon);
}

int run_matrix(const char *name, const struct CMUnitTest *tests, size_t count,
	       const struct daemon_options *o)
{
	const struct CMUnitTest last[] = { cmocka_unit_test(the_daemon_ends_well) };
	char group[128];
	int failed = 0;

	matrix_options = o;
	for (size_t v = 0; v < 8; v++)
		for (const struct fuc_layout *l = fuc_layouts; l->name; l++) {
			/* The layouts are the matter of decoding: one of each format will do. */
			if (l != fuc_layouts && v != 3 && v != 7)
				continue;
			if (ring_variants[v].packed && getenv("OVFS_TEST_COMMAND"))
				continue;
			matrix_ring = &ring_variants[v];
			matrix_layout = l;
			snprintf(group, sizeof(group), "%s, %s, layout %s", name,
				 ring_variants[v].name, l->name);
			failed += _cmocka_run_group_tests(group, tests, count, matrix_set_up,
							  matrix_tear_down);
		}
	failed += cmocka_run_group_tests_name("daemon", last, NULL, NULL);
	return failed + matrix_failures;
}
