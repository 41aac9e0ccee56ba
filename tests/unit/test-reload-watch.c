/* SPDX-License-Identifier: Apache-2.0 */
/* Every way in which a watched file is replaced is told, and what is beside it is not. */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/loop.h"
#include "watch.h"

static struct loop *loop;
static struct watch *watch;
static pthread_t thread;
static _Atomic unsigned changes;
static char dir[] = "/tmp/ovfs-watch-XXXXXX";

static void count(void *arg)
{
	assert_ptr_equal(arg, &changes);
	changes++;
}

static void *run(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void at(char path[PATH_MAX], const char *name)
{
	snprintf(path, PATH_MAX, "%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
	char path[PATH_MAX];
	int fd;

	at(path, name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(close(fd), 0);
}

static void move(const char *from, const char *to)
{
	char a[PATH_MAX], b[PATH_MAX];

	at(a, from);
	at(b, to);
	assert_int_equal(rename(a, b), 0);
}

static void link_to(const char *target, const char *name)
{
	char path[PATH_MAX];

	at(path, name);
	assert_int_equal(symlink(target, path), 0);
}

static void make_folder(const char *name)
{
	char path[PATH_MAX];

	at(path, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

/* Something is told within 20 s, from @before on; and then nothing more. */
static void expect(unsigned before)
{
	for (int ms = 0; changes == before; ms++) {
		if (ms == 20000)
			fail_msg("nothing was told");
		usleep(1000);
	}
}

/* What is begun on the loop's thread. */
struct paths {
	const char *file, *folder;
};

static void set_paths(void *arg)
{
	const struct paths *paths = arg;
	char path[PATH_MAX];

	watch_begin(watch);
	if (paths->file) {
		at(path, paths->file);
		watch_add(watch, path, false);
	}
	if (paths->folder) {
		at(path, paths->folder);
		watch_add(watch, path, true);
	}
	watch_end(watch);
}

/* Watches; the call that there is for what is new has come when this returns. */
static void watch_these(const char *file, const char *folder)
{
	struct paths paths = { file, folder };
	unsigned before = changes;

	loop_call(loop, set_paths, &paths);
	expect(before);
}

static int set_up(void **state)
{
	struct err *e;

	(void)state;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	changes = 0;
	e = loop_new(&loop);
	if (!e)
		e = watch_new(&watch, loop, count, &changes);
	if (e)
		return -1;
	return pthread_create(&thread, NULL, run, loop);
}

static int tear_down(void **state)
{
	char command[PATH_MAX];

	(void)state;
	loop_stop(loop);
	pthread_join(thread, NULL);
	watch_free(watch);
	loop_free(loop);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static void files_that_are_saved(void **state)
{
	unsigned before;

	(void)state;
	put("file", "1");
	watch_these("file", NULL);
	before = changes;
	put("file", "2"); /* in place */
	expect(before);
	before = changes;
	put("new", "3"); /* renamed over it */
	move("new", "file");
	expect(before);
	before = changes;
	move("file", "file~"); /* moved aside */
	put("file", "4");
	expect(before);
}

static void neighbours_are_not_told(void **state)
{
	(void)state;
	put("file", "1");
	watch_these("file", NULL);
	changes = 0;
	for (int i = 0; i < 10; i++)
		put("neighbour", "x");
	usleep(600000); /* three times as long as a burst is waited for */
	assert_int_equal(changes, 0);
}

static void what_is_not_there_yet(void **state)
{
	unsigned before;

	(void)state;
	watch_these("later", NULL);
	before = changes;
	put("later", "1");
	expect(before);
}

static void all_of_a_folder(void **state)
{
	char path[PATH_MAX];
	unsigned before;

	(void)state;
	make_folder("conf.d");
	watch_these(NULL, "conf.d");
	before = changes;
	put("conf.d/a.toml", "1");
	expect(before);
	before = changes;
	at(path, "conf.d/a.toml");
	assert_int_equal(unlink(path), 0);
	expect(before);
}

static void links_on_the_way(void **state)
{
	unsigned before;

	(void)state;
	make_folder("..1");
	make_folder("..2");
	put("..1/file", "1");
	put("..2/file", "2");
	link_to("..1", "..data");
	link_to("..data/file", "file");
	watch_these("file", NULL);
	before = changes;
	link_to("..2", "tmp");
	move("tmp", "..data");
	expect(before);
	/* And where it leads by now. */
	watch_these("file", NULL);
	before = changes;
	put("..2/file", "3");
	expect(before);
}

static void a_burst_is_told_once(void **state)
{
	(void)state;
	put("file", "1");
	watch_these("file", NULL);
	changes = 0;
	for (int i = 0; i < 20; i++)
		put("file", "x");
	expect(0);
	usleep(600000);
	/* Twice, if this machine took its time between two of them. */
	assert_in_range(changes, 1, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_that_are_saved, set_up, tear_down),
		cmocka_unit_test_setup_teardown(neighbours_are_not_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_not_there_yet, set_up, tear_down),
		cmocka_unit_test_setup_teardown(all_of_a_folder, set_up, tear_down),
		cmocka_unit_test_setup_teardown(links_on_the_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_burst_is_told_once, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("reload-watch", tests, NULL, NULL);
}
