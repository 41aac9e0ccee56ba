/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: ours, virtiofsd's as libvirt and Kata write it, and slips. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "options.h"

static char dir[] = "/tmp/ovfs-test-options-XXXXXX";
static char *out_text, *err_text;

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	free(out_text);
	free(err_text);
	unlink("config.toml");
	unlink("listen.sock");
	rmdir("a,b");
	return chdir("/") == 0 && rmdir(dir) == 0 ? 0 : -1;
}

/* Runs the words after "ovfs", separated by blanks. */
static int run(struct options *options, const char *words)
{
	char *copy = strdup(words), *rest = copy, *word, *argv[64] = { (char *)"ovfs" };
	size_t len;
	FILE *out, *err;
	int argc = 1, status;

	while ((word = strsep(&rest, " "))) {
		if (*word)
			argv[argc++] = word;
	}
	free(out_text);
	free(err_text);
	out = open_memstream(&out_text, &len);
	err = open_memstream(&err_text, &len);
	status = options_load(options, argc, argv, out, err);
	fclose(out);
	fclose(err);
	free(copy);
	return status;
}

static void expect_run(struct options *options, const char *words)
{
	if (run(options, words) != OPTIONS_RUN)
		fail_msg("%s: %s", words, err_text);
	assert_string_equal(err_text, "");
	assert_string_equal(out_text, "");
}

static void expect_error(const char *words, const char *expected)
{
	struct options options;

	assert_int_equal(run(&options, words), OPTIONS_EXIT_USAGE);
	assert_string_equal(err_text, expected);
	assert_string_equal(out_text, "");
}

static void write_config(const char *text)
{
	FILE *f = fopen("config.toml", "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

#define BASE "--shared-dir=. --socket-path=s "

static void test_actions(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(run(&o, "--version"), 0);
	assert_memory_equal(out_text, "ovfs ", 5);
	assert_int_equal(run(&o, "-V"), 0);
	assert_int_equal(run(&o, "--help"), 0);
	assert_non_null(strstr(out_text, "--config-file=FILE"));
	assert_non_null(strstr(out_text, "--posix-acl[=WHEN]"));
	assert_int_equal(run(&o, "--config-file=none -h"), 0);
	assert_int_equal(run(&o, "--print-capabilities"), 0);
	assert_string_equal(out_text, "{\n  \"type\": \"fs\",\n  \"features\": [\n"
				      "    \"separate-options\"\n  ]\n}\n");
	assert_int_equal(run(&o, "--print-config-reference"), 0);
	assert_non_null(strstr(out_text, "### `socket_path`"));
	assert_string_equal(err_text, "");
}

static void test_check_config(void **state)
{
	struct options o;

	(void)state;
	write_config("[socket_settings]\nsocket_path = \"s\"\n[storage_settings]\nroot = \".\"\n");
	assert_int_equal(run(&o, "--check-config --config-file config.toml --tag=t"), 0);
	assert_non_null(strstr(out_text, "socket_path = \"s\"\ntag = \"t\"\n"));
	assert_string_equal(err_text, "");

	write_config("[socket_settings]\nsocket_pth = \"s\"\ntag = 1\n[storage_settings]\nroot = "
		     "\".\"\n");
	expect_error(
		"--check-config --config-file=config.toml --socket-path=s",
		"ovfs: config.toml:2: socket_settings.socket_pth: unknown key, did you mean "
		"`socket_path`?\n"
		"ovfs: config.toml:3: socket_settings.tag: got an integer, expected a string of "
		"1 to 36 bytes\n");
	expect_error("--config-file=none.toml",
		     "ovfs: none.toml: cannot read the configuration: No such file or directory\n");
}

static void test_line_overrides_file(void **state)
{
	struct options o;

	(void)state;
	write_config("[socket_settings]\nsocket_path = \"s\"\ntag = \"file\"\n"
		     "[storage_settings]\nroot = \"/none\"\n[log]\nlevel = \"debug\"\n");
	/* Also when the file is named last. */
	expect_run(&o, "--shared-dir=. --tag=line --log-level=warn --config-file=config.toml");
	assert_string_equal(o.config_file, "config.toml");
	assert_string_equal(o.config.mounts[0].backend.storage.root, ".");
	assert_string_equal(o.config.mounts[0].socket.tag, "line");
	assert_string_equal(o.config.mounts[0].socket.path.item[0], "s");
	assert_int_equal(o.config.log.level, LOG_LEVEL_WARN);
	options_free(&o);
}

/* What is of one mount cannot be said for several. */
static void test_line_and_many_mounts(void **state)
{
	struct options o;

	(void)state;
#define MANY(name, path)                                                                           \
	"[[mount]]\nname = \"" name "\"\n[mount.socket_settings]\nsocket_path = \"" path "\"\n"    \
	"[mount.storage_settings]\ntype = \"memory\"\n"
	write_config(MANY("a", "1") MANY("b", "2"));
	expect_run(&o, "--config-file=config.toml --readonly --log-level=warn");
	assert_int_equal(o.config.mount_count, 2);
	assert_true(o.config.mounts[0].backend.storage.readonly);
	assert_true(o.config.mounts[1].backend.storage.readonly);
	options_free(&o);
	expect_error("--config-file=config.toml --tag=t --shared-dir=.",
		     "ovfs: --shared-dir: is for one mount with one storage, and the configuration "
		     "has several: say it there\n"
		     "ovfs: --tag: is for one mount with one storage, and the configuration has "
		     "several: say it there\n");
	write_config(MANY("a", "1"));
	expect_run(&o, "--config-file=config.toml --tag=t --socket-path=3");
	assert_string_equal(o.config.mounts[0].name, "a");
	assert_string_equal(o.config.mounts[0].socket.tag, "t");
	assert_string_equal(o.config.mounts[0].socket.path.item[0], "3");
	options_free(&o);
}

static void test_virtiofsd_options(void **state)
{
	struct options o;

	(void)state;
	expect_run(&o, BASE "--cache never --readonly --sandbox chroot --seccomp=none --xattr "
			    "--posix-acl --no-announce-submounts --inode-file-handles=never "
			    "--thread-pool-size=8 --rlimit-nofile=5000 --writeback "
			    "--allow-direct-io --no-readdirplus --modcaps=+sys_admin "
			    "--socket-group=0 --tag=t -f -d");
	assert_int_equal(o.config.mounts[0].fuse.cache, OVFS_CACHE_NEVER);
	assert_true(o.config.mounts[0].backend.storage.readonly);
	assert_int_equal(o.config.sandbox.mode, OVFS_SANDBOX_CHROOT);
	assert_int_equal(o.config.sandbox.seccomp, OVFS_SECCOMP_NONE);
	assert_true(o.config.mounts[0].fuse.posix_acl);
	assert_false(o.config.mounts[0].fuse.announce_submounts);
	assert_false(o.config.mounts[0].fuse.inode_file_handles);
	assert_int_equal(o.config.mounts[0].worker.threads, 8);
	assert_int_equal(o.config.mounts[0].fuse.fd_limit, 5000);
	assert_true(o.config.mounts[0].fuse.writeback && o.config.mounts[0].fuse.allow_direct_io);
	assert_false(o.config.mounts[0].fuse.readdirplus);
	assert_string_equal(o.config.sandbox.modcaps, "+sys_admin");
	assert_int_equal(o.config.mounts[0].socket.gid, 0);
	assert_int_equal(o.config.log.level, LOG_LEVEL_DEBUG);
	assert_int_equal(o.note_count, 0);
	options_free(&o);

	/* The last one of a kind counts. */
	expect_run(&o, BASE "--cache=always --cache=metadata --no-announce-submounts "
			    "--announce-submounts");
	assert_int_equal(o.config.mounts[0].fuse.cache, OVFS_CACHE_METADATA);
	assert_true(o.config.mounts[0].fuse.announce_submounts);
	options_free(&o);
}

/* qemuVirtioFSBuildCommandLine() of libvirt, with all its switches. */
static void test_as_libvirt_calls(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "listen.sock" };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct options o;
	char words[200];

	(void)state;
	assert_int_equal(mkdir("a,b", 0700), 0);
	snprintf(words, sizeof(words),
		 "--fd=%d -o source=a,,b,cache=none,sandbox=chroot,no_xattr,flock,posix_lock "
		 "--thread-pool-size=0 -d",
		 fd);
	assert_int_equal(run(&o, words), OPTIONS_EXIT_USAGE);
	assert_non_null(strstr(err_text, "does not listen"));
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	expect_run(&o, words);
	assert_int_equal(o.config.mounts[0].socket.fd, fd);
	assert_int_equal(o.config.mounts[0].socket.path.count, 0);
	assert_string_equal(o.config.mounts[0].backend.storage.root, "a,b");
	assert_int_equal(o.config.mounts[0].fuse.cache, OVFS_CACHE_NEVER);
	assert_int_equal(o.config.sandbox.mode, OVFS_SANDBOX_CHROOT);
	assert_false(o.config.mounts[0].fuse.xattr);
	assert_true(o.config.mounts[0].fuse.posix_locks);
	assert_int_equal(o.note_count, 1);
	assert_string_equal(o.note[0].option, "--thread-pool-size");
	options_free(&o);

	/* As Kata's runtime does. */
	snprintf(words, sizeof(words),
		 "--syslog --cache=auto --shared-dir=. --fd=%d --inode-file-handles=mandatory "
		 "--thread-pool-size=1 --announce-submounts --sandbox=none",
		 fd);
	expect_run(&o, words);
	assert_int_equal(o.config.sandbox.mode, OVFS_SANDBOX_NONE);
	assert_int_equal(o.config.mounts[0].worker.threads, 1);
	assert_true(o.config.mounts[0].fuse.inode_file_handles);
	assert_int_equal(o.note_count, 2);
	options_free(&o);
	close(fd);
	expect_error("--shared-dir=. --fd=999",
		     "ovfs: --fd: 999: Bad file descriptor, expected a listening socket\n");
	expect_error("--shared-dir=. --fd=x --socket-path=s",
		     "ovfs: --fd: got \"x\", expected an integer from 0 to 2147483647\n");
}

static void test_compat_list(void **state)
{
	struct options o;

	(void)state;
	expect_run(&o, "--socket-path=s -osource=.,xattr,posix_acl,timeout=2.5,log_level=err "
		       "-o writeback,no_writeback,no_readdirplus,no_posix_lock,no_flock,");
	assert_true(o.config.mounts[0].fuse.posix_acl);
	assert_int_equal(o.config.mounts[0].fuse.attr_timeout_ns, 2500000000);
	assert_int_equal(o.config.mounts[0].fuse.entry_timeout_ns, 2500000000);
	assert_int_equal(o.config.log.level, LOG_LEVEL_ERROR);
	assert_false(o.config.mounts[0].fuse.writeback);
	assert_false(o.config.mounts[0].fuse.posix_locks);
	options_free(&o);

	/* ACLs are on unless turned off, and attributes carry them. */
	expect_run(&o, BASE "-o no_posix_acl");
	assert_false(o.config.mounts[0].fuse.posix_acl);
	options_free(&o);
	expect_run(&o, BASE "-o no_xattr");
	assert_false(o.config.mounts[0].fuse.posix_acl);
	options_free(&o);

	expect_run(&o, BASE "-o flock,no_posix_lock");
	assert_true(o.config.mounts[0].fuse.posix_locks);
	assert_int_equal(o.note_count, 1);
	options_free(&o);

	expect_error(BASE "-o cahce=auto,timeout,xattr=on,timeout=soon",
		     "ovfs: -o cahce: unknown option, did you mean -o cache?\n"
		     "ovfs: -o timeout: expected a value after =\n"
		     "ovfs: -o timeout: got \"soons\", expected a duration such as \"1m30s\", "
		     "\"5s\" or \"100ms\", at most 365d\n"
		     "ovfs: -o xattr: takes no value\n");
}

static void test_slips(void **state)
{
	(void)state;
	expect_error(BASE "--chace=auto", "ovfs: --chace: unknown option, did you mean --cache?\n");
	expect_error(BASE "--xyzzy", "ovfs: --xyzzy: unknown option, see --help\n");
	expect_error(BASE "-x", "ovfs: -x: unknown option, see --help\n");
	expect_error(BASE "extra", "ovfs: extra: not an option, see --help\n");
	expect_error(BASE "--readonly=yes", "ovfs: --readonly: takes no value\n");
	expect_error(BASE "--tag", "ovfs: --tag: expected a value\n");
	expect_error(BASE "--cache=alway",
		     "ovfs: --cache: got \"alway\", expected \"auto\", \"always\", \"never\" or "
		     "\"metadata\"; did you mean \"always\"?\n");
	expect_error("", "ovfs: socket_settings.socket_path: required: where to listen (or "
			 "--socket-path=PATH)\n"
			 "ovfs: storage_settings.root: required: the directory to share (or "
			 "--shared-dir=DIR)\n");
}

/* What a caller may rely on is refused, what is harmless is noted. */
static void test_refused_and_noted(void **state)
{
	struct options o;

	(void)state;
	expect_error(BASE "--translate-uid=map:1:2:3",
		     "ovfs: --translate-uid: not supported: user and group ids are not "
		     "translated\n");
	expect_error(BASE "-o xattrmap=:map::user.virtiofs.:",
		     "ovfs: -o xattrmap: not supported: extended attributes keep their names\n");
	expect_error(BASE "--security-label",
		     "ovfs: --security-label: not supported: security labels\n");
	expect_error(BASE "--daemonize",
		     "ovfs: --daemonize: not supported: ovfs stays in the foreground\n");
	expect_run(&o, BASE "--security-label=never --seccomp=trap --allow-mmap "
			    "--migration-mode find-paths --killpriv-v2");
	assert_int_equal(o.config.sandbox.seccomp, OVFS_SECCOMP_KILL);
	assert_int_equal(o.note_count, 4);
	options_free(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_check_config),
		cmocka_unit_test(test_line_overrides_file),
		cmocka_unit_test(test_line_and_many_mounts),
		cmocka_unit_test(test_virtiofsd_options),
		cmocka_unit_test(test_as_libvirt_calls),
		cmocka_unit_test(test_compat_list),
		cmocka_unit_test(test_slips),
		cmocka_unit_test(test_refused_and_noted),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
