/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several guests in one tree at once, doing everything to a few names, while the service fails now
 * and then. What must hold: nothing breaks (run it under the sanitizers), every request is
 * answered, files hold what one writer wrote, and in the end the tree shows what the bucket has.
 */
#include "objectfs-fixture.h"

#include "store/layers/fault.h"

#define GUESTS 4
#define STEPS 1500

struct guest {
	struct ox ox; /* shares all but the session */
	struct ox *of;
	pthread_t thread;
	uint64_t random;
	unsigned number;
	bool faults;
};

static unsigned pick(struct guest *g, unsigned below)
{
	g->random = g->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(g->random >> 33) % below;
}

static void any_path(struct guest *g, char path[32])
{
	static const char *const dirs[] = { "", "a/", "b/", "a/c/", "b/c/", "d/" };

	snprintf(path, 32, "%s%c", dirs[pick(g, ARRAY_SIZE(dirs))], "abcdefxy"[pick(g, 8)]);
}

/* Whatever came of it, it is one of these. */
static void expect_sane(struct guest *g, const char *what, ssize_t ret)
{
	static const int fine[] = { ENOENT, EEXIST, ENOTDIR,	EISDIR, ENOTEMPTY,
				    ESTALE, EINVAL, EOPNOTSUPP, EBUSY };

	if (ret >= 0 || (g->faults && ret == -EIO))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(fine); i++)
		if (ret == -fine[i])
			return;
	fail_msg("%s: %s", what, strerror((int)-ret));
}

static void step_write(struct guest *g, const char *path)
{
	char text[64];
	uint64_t fh;
	int ret = ox_create(&g->ox, path, O_RDWR | (pick(g, 2) ? O_TRUNC : 0), &fh);

	expect_sane(g, "create", ret);
	if (ret)
		return;
	memset(text, 'a' + (int)g->number, sizeof(text));
	expect_sane(g, "write", ox_write(&g->ox, fh, text, sizeof(text), 0));
	if (pick(g, 3) == 0)
		expect_sane(g, "fsync", ox_fsync(&g->ox, fh));
	expect_sane(g, "close", ox_closeat(&g->ox, fh));
}

static void step_read(struct guest *g, const char *path)
{
	char text[64];
	uint64_t fh;
	ssize_t n;
	int ret = ox_openat(&g->ox, path, O_RDONLY, &fh);

	expect_sane(g, "open", ret);
	if (ret)
		return;
	n = ox_read(&g->ox, fh, text, sizeof(text), 0);
	expect_sane(g, "read", n);
	/* Writers write all 64 in one call. */
	if (n > 0)
		for (ssize_t i = 1; i < n; i++)
			assert_int_equal(text[i], text[0]);
	ox_release(&g->ox, fh);
}

static void step_list(struct guest *g, const char *path)
{
	char buf[512];
	struct fuse_entry_out e;
	uint64_t fh, offset = 0;
	ssize_t n = 0;

	if (ox_stat(&g->ox, path, &e) || ox_opendir(&g->ox, e.nodeid, &fh))
		return;
	for (unsigned i = 0; i < 40; i++) {
		n = ox_readdir(&g->ox, pick(g, 2) ? FUSE_READDIR : FUSE_READDIRPLUS, fh, offset,
			       buf, sizeof(buf));
		if (n <= 0)
			break;
		/* The position of some entry: plain and plus look alike only here. */
		offset = offset < 2 ? offset + 1 : offset + pick(g, 3);
	}
	assert_int_equal(ox_releasedir(&g->ox, fh), 0);
}

static void step(struct guest *g)
{
	struct fuse_entry_out e;
	char path[32], other[32];

	any_path(g, path);
	any_path(g, other);
	switch (pick(g, 12)) {
	case 0:
	case 1:
		step_write(g, path);
		break;
	case 2:
	case 3:
		step_read(g, path);
		break;
	case 4:
		expect_sane(g, "mkdir", ox_mkdir(&g->ox, path));
		break;
	case 5:
		expect_sane(g, "rmdir", ox_rmdir(&g->ox, path));
		break;
	case 6:
		expect_sane(g, "unlink", ox_unlink(&g->ox, path));
		break;
	case 7:
	case 8:
		expect_sane(g, "rename", ox_rename(&g->ox, path, other, pick(g, 2)));
		break;
	case 9:
		step_list(g, path);
		break;
	case 10:
		expect_sane(g, "truncate", ox_truncate(&g->ox, path, 0));
		break;
	case 11:
		if (!ox_stat(&g->ox, path, &e)) {
			expect_sane(g, "getattr", ox_getattr(&g->ox, e.nodeid, NULL));
			ox_forget(&g->ox, e.nodeid, pick(g, 100));
		}
		break;
	}
}

static void *guest_run(void *arg)
{
	struct guest *g = arg;

	for (unsigned i = 0; i < STEPS; i++) {
		step(g);
		/* A guest that is rebooted, with whatever it has open. */
		if (pick(g, 300) == 0) {
			g->ox.fs->ops->session_free(g->ox.session);
			g->ox.session = ox_session(&g->ox);
		}
	}
	return NULL;
}

/* All that the driver shows below @prefix, as keys, appended to @shown, each with a comma. */
static void collect(struct ox *ox, const char *prefix, char *shown, size_t room)
{
	char *names = strdup(ox_list(ox, prefix)), path[128], *rest = names, *name;

	while ((name = strsep(&rest, ",")) != NULL && *name) {
		snprintf(path, sizeof(path), "%s%s", prefix, name);
		assert_in_range(strlen(shown) + strlen(path) + 2, 0, room);
		strcat(strcat(shown, path), ",");
		if (path[strlen(path) - 1] == '/')
			collect(ox, path, shown, room);
	}
	free(names);
}

/* Whether an object has the name of a directory above @key, or @key that of a directory, be it
 * one without a marker: what fails half-way may leave that. */
static bool hidden(struct ox *ox, const char *key)
{
	struct env_list below = { .limit = 1 };
	char path[140];
	char *slash = path;

	snprintf(path, sizeof(path), "%s/", key);
	while ((slash = strchr(slash, '/')) != NULL) {
		bool object;

		*slash = '\0';
		object = strcmp(ox_bucket(ox, path), "(none)") != 0;
		*slash++ = '/';
		if (object && *slash)
			return true;
	}
	below.prefix = path;
	return *env_list_text(&ox->ce.env, &below) != '\0';
}

/* Every object is shown; @all: even what another of the same name would hide, every file that is
 * shown is an object, and nobody came into conflict with another client, as there is none. */
static void check_tree(struct ox *ox, bool all)
{
	struct env_list list = { .prefix = "" };
	char *shown = calloc(1, 65536), *keys = strdup(env_list_text(&ox->ce.env, &list));
	char *rest = keys, *key, found[140];

	if (all)
		assert_null(strstr(keys, "conflict"));
	shown[0] = ',';
	collect(ox, "", shown, 65536);
	while ((key = strsep(&rest, ",")) != NULL && *key) {
		snprintf(found, sizeof(found), ",%s,", key);
		if (!strstr(shown, found) && (all || !hidden(ox, key)))
			fail_msg("not shown: %s\nobjects: %s\nshown: %s", key,
				 env_list_text(&ox->ce.env, &list), shown);
	}
	free(keys);
	rest = shown + 1;
	while (all && (key = strsep(&rest, ",")) != NULL && *key)
		if (key[strlen(key) - 1] != '/' && !strcmp(ox_bucket(ox, key), "(none)"))
			fail_msg("shown, but no object: %s\nobjects: %s", key,
				 env_list_text(&ox->ce.env, &list));
	free(shown);
}

static void run_guests(struct ox *ox, bool faults)
{
	struct store_fault fault = { .error_permille = 20 };
	struct guest guests[GUESTS];
	struct ox_req sync;

	if (faults)
		store_fault_set(ox->ce.fault, STORE_FAULT_ALL, &fault);
	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){
			.ox = *ox, .of = ox, .random = i + 1, .number = i, .faults = faults
		};
		guests[i].ox.session = ox_session(ox);
		assert_int_equal(pthread_create(&guests[i].thread, NULL, guest_run, &guests[i]), 0);
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		pthread_join(guests[i].thread, NULL);
		ox->fs->ops->session_free(guests[i].ox.session);
	}
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	ox_req_init(&sync, FUSE_SYNCFS, 1);
	ox_call(ox, &sync);
}

static void test_together(void **state)
{
	struct ox *ox = *state;
	struct cache_storage_usage usage;

	run_guests(ox, false);
	/* There is no other client that could be in the way of a commit. */
	cache_storage_usage(ox->ce.storage, &usage);
	assert_int_equal(usage.commit_failures, 0);
	check_tree(ox, true);
}

/* With failures, what is in the bucket is not certain, but all of it must be shown, once what
 * was known of it has timed out: half a rename, or a conflict, leaves what no listing knew. */
static void test_faults(void **state)
{
	struct ox *ox = *state;

	run_guests(ox, true);
	sleep_ms(50);
	check_tree(ox, false);
}

static int setup_times(void **state, bool write_back)
{
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox->config.write_back = write_back;
	log_set_level(LOG_LEVEL_ERROR);
	ox->config.attr_timeout_ns = 5 * MSEC;
	ox->config.entry_timeout_ns = 5 * MSEC;
	ox->config.negative_timeout_ns = 5 * MSEC;
	ox_open(ox);
	*state = ox;
	return 0;
}

static int setup_short(void **state)
{
	return setup_times(state, false);
}

static int setup_short_write_back(void **state)
{
	return setup_times(state, true);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_together, ox_setup, ox_teardown),
		cmocka_unit_test_setup_teardown(test_together, setup_short, ox_teardown),
		cmocka_unit_test_setup_teardown(test_together, ox_setup_write_back, ox_teardown),
		cmocka_unit_test_setup_teardown(test_faults, setup_short, ox_teardown),
		cmocka_unit_test_setup_teardown(test_faults, setup_short_write_back, ox_teardown),
	};

	return cmocka_run_group_tests_name("objectfs-threads", tests, NULL, NULL);
}
