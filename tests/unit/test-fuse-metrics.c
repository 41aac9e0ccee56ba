/* SPDX-License-Identifier: Apache-2.0 */
/* What a session counts of its requests, and tells of those under way. */
#include <errno.h>

#include "fuse-fake.h"
#include "fuse/metrics.h"

static struct fuse_opcode_metrics metrics_of(struct guest *g, uint32_t opcode)
{
	struct fuse_opcode_metrics m;
	uint64_t results = 0, buckets = 0;

	fuse_session_metrics(g->session, opcode, &m);
	for (unsigned i = 0; i < FUSE_RESULTS; i++)
		results += m.results[i];
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		buckets += m.buckets[i];
	assert_int_equal(results, buckets);
	return m;
}

static void send(struct guest *g, uint32_t opcode, ssize_t result)
{
	struct msg m;

	g->fake.result = result;
	msg_begin(&m, opcode);
	guest_send(g, &m, 512);
}

static void send_lookup(struct guest *g)
{
	struct msg m;

	g->fake.result = 0;
	msg_begin(&m, FUSE_LOOKUP);
	msg_str(&m, "name");
	guest_send(g, &m, 512);
}

static void send_read(struct guest *g, ssize_t result)
{
	struct fuse_read_in in = { .size = 4096 };
	struct msg m;

	g->fake.result = result;
	msg_begin(&m, FUSE_READ);
	msg_put(&m, &in, sizeof(in));
	guest_send(g, &m, 8192);
}

static void test_counts(void **state)
{
	static const struct {
		int error;
		enum fuse_result result;
	} errors[] = {
		{ ENOENT, FUSE_RESULT_ABSENT },	    { EEXIST, FUSE_RESULT_REFUSED },
		{ EACCES, FUSE_RESULT_DENIED },	    { EOPNOTSUPP, FUSE_RESULT_UNSUPPORTED },
		{ EINTR, FUSE_RESULT_INTERRUPTED }, { ENOSPC, FUSE_RESULT_FULL },
		{ ESTALE, FUSE_RESULT_STALE },	    { EIO, FUSE_RESULT_ERROR },
		{ ETIMEDOUT, FUSE_RESULT_ERROR },   { 4000, FUSE_RESULT_ERROR },
	};
	struct guest *g = *state;
	struct fuse_opcode_metrics m;

	assert_false(fuse_session_metrics(g->session, FUSE_STATFS, &m));
	assert_true(fuse_session_metrics(g->session, FUSE_INIT, &m));
	assert_int_equal(m.results[FUSE_RESULT_OK], 1);
	for (unsigned i = 0; i < 7; i++)
		send(g, FUSE_STATFS, 0);
	m = metrics_of(g, FUSE_STATFS);
	assert_int_equal(m.results[FUSE_RESULT_OK], 7);
	assert_true(m.latency_ns > 0);
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		uint64_t before = metrics_of(g, FUSE_STATFS).results[errors[i].result];

		send(g, FUSE_STATFS, -errors[i].error);
		m = metrics_of(g, FUSE_STATFS);
		assert_int_equal(m.results[errors[i].result], before + 1);
	}
	assert_int_equal(m.results[FUSE_RESULT_OK], 7);
	assert_int_equal(m.bytes, 0);

	/* An entry without a node says that there is nothing. */
	send_lookup(g);
	assert_int_equal(metrics_of(g, FUSE_LOOKUP).results[FUSE_RESULT_ABSENT], 1);

	send_read(g, 4096);
	send_read(g, 100);
	send_read(g, -EIO);
	m = metrics_of(g, FUSE_READ);
	assert_int_equal(m.bytes, 4196);
	assert_int_equal(m.results[FUSE_RESULT_OK], 2);
	assert_int_equal(m.results[FUSE_RESULT_ERROR], 1);
}

/* What never gets to the driver is counted as well. */
static void test_refused(void **state)
{
	struct guest *g = *state;

	send(g, FUSE_POLL, 0);
	assert_int_equal(metrics_of(g, FUSE_POLL).results[FUSE_RESULT_UNSUPPORTED], 1);
	send(g, FUSE_READ, 0); /* without its arguments */
	assert_int_equal(metrics_of(g, FUSE_READ).results[FUSE_RESULT_REFUSED], 1);
	send(g, 4711, 0);
	send(g, UINT32_MAX, 0);
	guest_call(g, "", 0, 512);
	assert_int_equal(metrics_of(g, 0).results[FUSE_RESULT_UNSUPPORTED], 2);
	assert_int_equal(metrics_of(g, 0).results[FUSE_RESULT_REFUSED], 1);
	assert_string_equal(fuse_opcode_name(0), "UNKNOWN");
	assert_string_equal(fuse_opcode_name(FUSE_LOOKUP), "LOOKUP");
	assert_null(fuse_opcode_name(2000));
}

static ssize_t later(struct fs_session *session, struct fs_req *req)
{
	(void)session;
	span_mark(SPAN_STORAGE);
	req->out.statfs.blocks = 1;
	return FS_PENDING;
}

static void test_under_way(void **state)
{
	struct guest *g = *state;
	struct fuse_request_info info;
	struct msg m;
	uint64_t begun;

	g->fake.handler = later;
	msg_begin(&m, FUSE_STATFS);
	guest_start(g, m.bytes, m.len, 512);
	begun = loop_last_ns();
	assert_int_equal(g->done, 0);
	assert_false(
		fuse_session_metrics(g->session, FUSE_STATFS, &(struct fuse_opcode_metrics){ 0 }));
	/* Of a request that came at another time the session knows nothing. */
	assert_false(fuse_request_look(g->storage, begun - 1, &info));
	assert_true(fuse_request_look(g->storage, begun, &info));
	assert_int_equal(info.opcode, FUSE_STATFS);
	assert_int_equal(info.unique, msg_header(&m)->unique);
	assert_int_equal(info.nodeid, msg_header(&m)->nodeid);
	assert_false(info.waits);
	assert_int_equal(info.times.place, SPAN_STORAGE);
	/* Once. */
	assert_true(fuse_request_report(g->storage));
	assert_false(fuse_request_report(g->storage));
	fs_req_complete(g->fake.last, 0);
	guest_finish(g);
	assert_int_equal(metrics_of(g, FUSE_STATFS).results[FUSE_RESULT_OK], 1);

	guest_start(g, m.bytes, m.len, 512);
	assert_true(fuse_request_report(g->storage));
	fs_req_complete(g->fake.last, 0);
	guest_finish(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_counts, guest_setup_ready, guest_teardown),
		cmocka_unit_test_setup_teardown(test_refused, guest_setup_ready, guest_teardown),
		cmocka_unit_test_setup_teardown(test_under_way, guest_setup_ready, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
