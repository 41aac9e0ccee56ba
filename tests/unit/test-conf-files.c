/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot of what a configuration is made of: what it keeps, and its way to another
 * process, which loads the same from it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "conf/files.h"
#include "options.h"

static char dir[] = "/tmp/ovfs-test-files-XXXXXX";

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) && chdir(dir) == 0 && mkdir("conf.d", 0755) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return chdir("/") == 0 ? system(command) : -1;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(name, mode), 0);
}

static void test_what_is_kept(void **state)
{
	struct conf_files *files = conf_files_new();
	const struct conf_file *file;

	(void)state;
	write_file("a", "text", 0644);
	file = conf_files_read(files, "a", 100);
	assert_int_equal(file->error, 0);
	assert_string_equal(file->text, "text");
	assert_int_equal(file->len, 4);
	assert_true(file->exposed);
	/* Once read, it stays what it was. */
	write_file("a", "other", 0600);
	assert_ptr_equal(conf_files_read(files, "a", 100), file);
	assert_string_equal(file->text, "text");

	file = conf_files_read(files, "none", 100);
	assert_int_equal(file->error, ENOENT);
	assert_null(file->text);
	assert_int_equal(conf_files_read(files, "conf.d", 100)->error, EISDIR);
	write_file("long", "12345", 0600);
	assert_int_equal(conf_files_read(files, "long", 3)->len, 4);
	assert_false(conf_files_read(files, "long", 3)->exposed);

	write_file("conf.d/b.toml", "", 0600);
	write_file("conf.d/a.toml", "", 0600);
	write_file("conf.d/.c.toml", "", 0600);
	write_file("conf.d/d.toml~", "", 0600);
	file = conf_files_list(files, "conf.d");
	assert_int_equal(file->error, 0);
	assert_int_equal(file->len, 14);
	assert_memory_equal(file->text, "a.toml\0b.toml", 14);
	assert_int_equal(conf_files_list(files, "none.d")->error, ENOENT);

	assert_int_equal(conf_files_group(files, "root")->id, 0);
	assert_int_equal(conf_files_group(files, "no such group")->error, ENOENT);
	assert_int_equal(conf_files_count(files), 8);
	assert_string_equal(conf_files_at(files, 0)->path, "a");
	assert_string_equal(conf_files_here(files), dir);
	assert_true(conf_files_memory(files) > 0);
	conf_files_free(files);
}

/* Through a descriptor and back. */
static struct conf_files *pass(const struct conf_files *files)
{
	struct conf_files *copy;
	int fd;

	assert_null(conf_files_send(files, &fd));
	assert_int_equal(write(fd, "x", 1), -1); /* sealed */
	assert_null(conf_files_receive(&copy, fd));
	close(fd);
	return copy;
}

/* Nothing else is opened for good, or waited for. */
static void test_what_is_no_file(void **state)
{
	struct conf_files *files = conf_files_new();

	(void)state;
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(conf_files_read(files, "fifo", 100)->error, ENXIO);
	assert_int_equal(conf_files_read(files, "/dev/zero", 100)->error, ENXIO);
	assert_null(conf_files_read(files, "fifo", 100)->text);
	assert_non_null(strstr(conf_file_strerror(ENXIO), "regular"));
	conf_files_free(files);
}

static void test_pass(void **state)
{
	struct conf_files *files = conf_files_new(), *copy, *later;

	(void)state;
	write_file("a", "text", 0644);
	write_file("empty", "", 0644);
	conf_files_read(files, "a", 100);
	conf_files_read(files, "empty", 100);
	conf_files_read(files, "none", 100);
	conf_files_list(files, "conf.d");
	conf_files_group(files, "root");
	copy = pass(files);
	assert_true(conf_files_sealed(copy));
	assert_true(conf_files_equal(files, copy));
	assert_string_equal(conf_files_here(copy), dir);
	assert_string_equal(conf_files_read(copy, "a", 100)->text, "text");
	assert_int_equal(conf_files_read(copy, "empty", 100)->len, 0);
	assert_int_equal(conf_files_read(copy, "none", 100)->error, ENOENT);
	assert_int_equal(conf_files_count(copy), 5);
	/* It is all that there is. */
	write_file("b", "x", 0644);
	assert_int_equal(conf_files_read(copy, "b", 100)->error, EACCES);
	assert_int_equal(conf_files_list(copy, ".")->error, EACCES);
	conf_files_free(copy);

	write_file("a", "changed", 0644);
	later = conf_files_new();
	conf_files_read(later, "a", 100);
	conf_files_read(later, "empty", 100);
	conf_files_read(later, "none", 100);
	conf_files_list(later, "conf.d");
	conf_files_group(later, "root");
	assert_false(conf_files_equal(files, later));
	conf_files_free(later);
	conf_files_free(files);
}

static void test_receive_refuses(void **state)
{
	struct conf_files *files = conf_files_new(), *copy;
	struct err *e;
	char all[4096];
	ssize_t len;
	int fd, cut;

	(void)state;
	write_file("a", "text", 0644);
	conf_files_read(files, "a", 100);
	assert_null(conf_files_send(files, &fd));
	conf_files_free(files);
	len = pread(fd, all, sizeof(all), 0);
	assert_true(len > 0);
	close(fd);
	/* A copy that ends early, at any byte. */
	for (ssize_t end = 0; end < len; end++) {
		cut = memfd_create("cut", 0);
		assert_int_equal(write(cut, all, (size_t)end), end);
		e = conf_files_receive(&copy, cut);
		assert_non_null(e);
		err_free(e);
		close(cut);
	}
}

/* options_load() with the words of @line. */
static char *words_of[16];

static void load(struct options *options, char *line)
{
	int argc = 0;
	char *out, *err;
	size_t out_len, err_len;
	FILE *out_file = open_memstream(&out, &out_len), *err_file = open_memstream(&err, &err_len);
	int status;

	for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
		words_of[argc++] = word;
	words_of[argc] = NULL;
	status = options_load(options, argc, words_of, out_file, err_file);
	fclose(out_file);
	fclose(err_file);
	if (status != OPTIONS_RUN)
		fail_msg("%s", err);
	free(out);
	free(err);
}

#define CONFIG                                                                                     \
	"include = \"conf.d\"\n[socket_settings]\nsocket_path = \"s\"\nsocket_group = \"root\"\n"  \
	"[storage_settings]\ntype = \"s3\"\nbucket = \"b\"\naccess_key_id = \"a\"\n"               \
	"secret_access_key_file = \"secret\"\nca_bundle = \"a\"\n"

static void test_reload(void **state)
{
	char line[] = "ovfs --config-file=f.toml --tag=line";
	struct options old, fresh;
	struct conf_files *files;
	struct err *e;

	(void)state;
	write_file("conf.d/a.toml", "[retry_settings]\nattempts = 3\n", 0600);
	write_file("conf.d/b.toml", "", 0600);
	write_file("secret", "one\n", 0600);
	write_file("f.toml", CONFIG, 0600);
	load(&old, line);
	assert_string_equal(old.config.mounts[0].backend.storage.s3.secret_access_key, "one");

	/* Outside: the host as it is now. */
	write_file("secret", "two\n", 0600);
	write_file("conf.d/c.toml", "[limit_settings]\ndata_requests = 7\n", 0600);
	files = conf_files_new();
	e = options_reload(&fresh, &old, files);
	assert_null(e);
	assert_false(conf_files_equal(old.files, fresh.files));
	files = pass(fresh.files);
	options_free(&fresh);

	/* Inside: no file of it is to be seen any more. */
	assert_int_equal(rename("f.toml", "g.toml"), 0);
	assert_int_equal(rename("conf.d", "conf.e"), 0);
	e = options_reload(&fresh, &old, files);
	if (e)
		fail_msg("%s", err_msg(e));
	assert_string_equal(fresh.config.mounts[0].backend.storage.s3.secret_access_key, "two");
	assert_string_equal(fresh.config.mounts[0].socket.tag, "line");
	assert_int_equal(fresh.config.mounts[0].socket.gid, 0);
	assert_int_equal(fresh.config.mounts[0].backend.retry.attempts, 3);
	assert_int_equal(fresh.config.mounts[0].backend.limit.data_requests, 7);
	assert_int_equal(fresh.config.pool.size, old.config.pool.size);
	assert_memory_equal(fresh.config.mounts[0].backend.storage.s3.ca_bundle, dir, strlen(dir));
	options_free(&fresh);
	assert_int_equal(rename("g.toml", "f.toml"), 0);
	assert_int_equal(rename("conf.e", "conf.d"), 0);
	options_free(&old);
}

static void test_reload_with_errors(void **state)
{
	char line[] = "ovfs --config-file=f.toml";
	struct options old, fresh;
	struct err *e;

	(void)state;
	write_file("f.toml", CONFIG, 0600);
	load(&old, line);
	write_file("f.toml", CONFIG "regoin = 1\n", 0600);
	e = options_reload(&fresh, &old, conf_files_new());
	assert_non_null(e);
	assert_string_equal(err_msg(e), "f.toml:11: storage_settings.regoin: unknown key, did you "
					"mean `region`?");
	err_free(e);
	assert_true(conf_files_count(fresh.files) > 1);
	options_free(&fresh);
	write_file("f.toml", CONFIG "regoin = 1\nreadonly = 1\n[nowhere_near]\n", 0600);
	e = options_reload(&fresh, &old, conf_files_new());
	assert_non_null(e);
	assert_string_equal(err_msg(e), "f.toml:11: storage_settings.regoin: unknown key, did you "
					"mean `region`? (and 2 more problems: see --check-config)");
	err_free(e);
	options_free(&fresh);
	unlink("f.toml");
	e = options_reload(&fresh, &old, conf_files_new());
	assert_non_null(e);
	assert_string_equal(err_msg(e), "f.toml: cannot read the configuration: No such file or "
					"directory");
	err_free(e);
	assert_string_equal(conf_files_at(fresh.files, 0)->path, "f.toml");
	options_free(&fresh);
	assert_string_equal(old.config.mounts[0].backend.storage.s3.bucket, "b");
	options_free(&old);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_kept), cmocka_unit_test(test_what_is_no_file),
		cmocka_unit_test(test_pass),	     cmocka_unit_test(test_receive_refuses),
		cmocka_unit_test(test_reload),	     cmocka_unit_test(test_reload_with_errors),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
