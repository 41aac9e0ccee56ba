/* SPDX-License-Identifier: Apache-2.0 */
/* The stack that a configuration asks for: its layers, its limits, and the one message
 * when the service cannot be used. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "conf/conf.h"
#include "conf/schema.h"
#include "storage_stack.h"

/* @text as the daemon would load it. */
static void configure(struct ovfs_config *config, const char *text)
{
	struct conf_files *files = conf_files_new();
	struct conf_load *load = ovfs_config_load_new(files);
	const struct conf_problem *problem;
	size_t count;

	conf_load_text(load, "f", text, strlen(text));
	ovfs_config_check(load, config);
	problem = conf_load_problems(load, &count);
	if (count > 0)
		fail_msg("%s", problem[0].text);
	conf_load_free(load);
	conf_files_free(files);
}

#define HEAD "[socket_settings]\nsocket_path = \"s\"\n[storage_settings]\n"

static int put(struct store *store, const char *key, size_t len)
{
	struct store_op *op = calloc(1, sizeof(*op));
	char *data = calloc(1, len);
	struct iovec iov = { data, len };
	int ret;

	op->opcode = STORE_PUT;
	op->key = key;
	op->data = iov_cursor(&iov, 1);
	op->length = len;
	ret = store_call(store, op);
	free(data);
	free(op);
	return ret;
}

static void test_layers(void **state)
{
	static const char *const names[] = { "metrics", "switch",  "retry",   "throttle",
					     "limit",	"timeout", "metrics", "memory" };
	struct ovfs_config config;
	struct storage_stack *stack;
	struct store *store;
	size_t n = 0;

	(void)state;
	configure(&config, HEAD "type = \"memory\"\n");
	assert_null(storage_stack_new(&stack, &config.mounts[0].backend, false));
	for (store = storage_stack_store(stack); store; store = store->next) {
		assert_true(n < ARRAY_SIZE(names));
		assert_string_equal(store->ops->name, names[n++]);
	}
	assert_int_equal(n, ARRAY_SIZE(names));
	storage_stack_free(stack);
	ovfs_config_free(&config);
}

static void test_memory(void **state)
{
	struct ovfs_config config;
	struct storage_stack *stack;

	(void)state;
	configure(&config, HEAD "type = \"memory\"\ncapacity = \"1MiB\"\n");
	assert_null(storage_stack_new(&stack, &config.mounts[0].backend, false));
	assert_int_equal(put(storage_stack_store(stack), "a", 600000), 0);
	assert_int_equal(put(storage_stack_store(stack), "b", 600000), -ENOSPC);
	storage_stack_log(stack);
	storage_stack_free(stack);
	ovfs_config_free(&config);
}

/* A port of this machine where nobody listens. */
static unsigned closed_port(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	close(fd);
	return ntohs(addr.sin_port);
}

static void expect_error(const char *text, const char *word)
{
	struct ovfs_config config;
	struct storage_stack *stack = NULL;
	struct err *e;

	configure(&config, text);
	e = storage_stack_new(&stack, &config.mounts[0].backend, false);
	if (!e)
		fail_msg("no error for %s", text);
	if (!strstr(err_msg(e), word))
		fail_msg("\"%s\" is not in \"%s\"", word, err_msg(e));
	err_free(e);
	ovfs_config_free(&config);
}

#define S3 HEAD "type = \"s3\"\nbucket = \"bucket\"\n"
#define KEYS "access_key_id = \"a\"\nsecret_access_key = \"s\"\n"

static void test_service_that_cannot_be_used(void **state)
{
	(void)state;
	expect_error(S3 KEYS "server_side_encryption_customer_algorithm = \"AES256\"\n"
			     "server_side_encryption_customer_key = \"short\"\n",
		     "server_side_encryption_customer_key");
	expect_error(S3 KEYS "ca_bundle = \"/dev/null\"\n", "ca_bundle");
	expect_error(S3 KEYS "default_storage_class = \"a\\r\\nb\"\n", "default_storage_class");
}

/* Fails at once what it is asked for, and says why; settings are taken unless they say where. */
static void test_service_that_is_not_there(void **state)
{
	struct storage_stack_health health;
	struct ovfs_config config, other, elsewhere;
	struct storage_stack *stack;
	char text[512];
	struct err *e;

	(void)state;
	snprintf(text, sizeof(text), S3 KEYS "endpoint = \"http://127.0.0.1:%u\"\n", closed_port());
	configure(&config, text);
	strcat(text, "session_token = \"t\"\n");
	configure(&other, text);
	snprintf(text, sizeof(text), S3 KEYS "endpoint = \"http://127.0.0.1:%u\"\n", 1);
	configure(&elsewhere, text);
	assert_null(storage_stack_new(&stack, &config.mounts[0].backend, false));
	storage_stack_health(stack, &health);
	assert_int_equal(health.state, STORE_HEALTH_CLOSED);
	assert_non_null(strstr(health.error, "does not accept connections"));
	assert_int_equal(put(storage_stack_store(stack), "a", 10), -EIO);
	assert_null(storage_stack_prepare(stack, &other.mounts[0].backend, true));
	storage_stack_commit(stack);
	e = storage_stack_prepare(stack, &elsewhere.mounts[0].backend, false);
	assert_non_null(e);
	err_free(e);
	assert_int_equal(put(storage_stack_store(stack), "a", 10), -EIO);
	storage_stack_stop(stack);
	storage_stack_free(stack);
	ovfs_config_free(&config);
	ovfs_config_free(&other);
	ovfs_config_free(&elsewhere);
}

static int quiet(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	return 0;
}

static uint64_t requests(struct storage_stack *stack, enum store_opcode opcode)
{
	struct store_metrics_opcode sent;

	storage_stack_sent(stack, opcode, &sent);
	return sent.requests;
}

/* Operations go on while limits change; data in memory and what was counted stay. */
static void test_exchange(void **state)
{
	struct ovfs_config config, other;
	struct storage_stack *stack;

	(void)state;
	configure(&config, HEAD "type = \"memory\"\n");
	configure(&other, HEAD "type = \"memory\"\n[limit_settings]\ndata_requests = 1\n");
	assert_null(storage_stack_new(&stack, &config.mounts[0].backend, false));
	assert_int_equal(put(storage_stack_store(stack), "a", 10), 0);
	assert_null(storage_stack_prepare(stack, &other.mounts[0].backend, true));
	storage_stack_discard(stack);
	for (unsigned i = 0; i < 50; i++) {
		const struct ovfs_config *next = i % 2 ? &config : &other;

		assert_null(storage_stack_prepare(stack, &next->mounts[0].backend, true));
		assert_int_equal(put(storage_stack_store(stack), "b", i + 1), 0);
		storage_stack_commit(stack);
		assert_int_equal(put(storage_stack_store(stack), "c", i + 1), 0);
	}
	assert_int_equal(requests(stack, STORE_PUT), 101);
	storage_stack_stop(stack);
	storage_stack_free(stack);
	ovfs_config_free(&config);
	ovfs_config_free(&other);
}

/* A directory has no layers: nothing is repeated, and whoever asks is told so. */
static void test_files(void **state)
{
	struct storage_stack_usage usage;
	struct ovfs_config config;
	struct storage_stack *stack;

	(void)state;
	configure(&config, HEAD "type = \"fs\"\nroot = \"/\"\n"
				"[cache_settings]\nenabled_cache = true\n");
	assert_null(storage_stack_new(&stack, &config.mounts[0].backend, false));
	for (unsigned i = 0; i < 3; i++) {
		storage_stack_usage(stack, &usage);
		assert_int_equal(usage.retries + usage.connections, 0);
		assert_null(storage_stack_prepare(stack, &config.mounts[0].backend, false));
		storage_stack_commit(stack);
	}
	storage_stack_log(stack);
	storage_stack_stop(stack);
	storage_stack_free(stack);
	ovfs_config_free(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layers),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_service_that_cannot_be_used),
		cmocka_unit_test(test_service_that_is_not_there),
	};

	return cmocka_run_group_tests(tests, quiet, NULL);
}
