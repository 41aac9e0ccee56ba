/* SPDX-License-Identifier: Apache-2.0 */
/* What commits cost, what they leave behind, and what becomes of them when others interfere. */
#include "cache-write-fixture.h"

#include "base/log.h"
#include "cache/write.h"

static void check_clean(struct cw *cw, struct cache_file *f)
{
	struct cache_storage_usage usage;
	struct cache_file_info info;

	cache_file_info(f, &info);
	assert_false(info.dirty);
	assert_int_equal(f->dirty_blocks, 0);
	cache_storage_usage(cw->storage, &usage);
	assert_int_equal(usage.dirty_bytes, 0);
	assert_int_equal(usage.dirty_files, 0);
}

/* A new small file: one request, again one when it changes, none when it does not. */
static void test_small(void **state)
{
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = cw_create(&cw, "a");
	assert_int_equal(cache_commit(f), 0); /* empty */
	assert_int_equal(cw_object_size(&cw, "a"), 0);
	cw_fill(f, 0, 4096, 1);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_all_requests(&cw), 2);
	cw_expect_object(&cw, "a", 0, 4096, 1);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* A change in the middle of a large object: copies around one part. */
static void test_partial_change(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;

	(void)state;
	options.memory.part_max = 64 * MiB;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 32 * MiB, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 10 * MiB + 1000, 5000, 2);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_requests(&cw, STORE_BEGIN), 1);
	assert_int_equal(cw_requests(&cw, STORE_COPY_PART), 2);
	assert_int_equal(cw_requests(&cw, STORE_PART), 1);
	assert_int_equal(cw_requests(&cw, STORE_COMMIT), 1);
	assert_int_equal(cw_sent(&cw), CW_PART_MIN);
	cw_expect_object(&cw, "a", 0, 10 * MiB + 1000, 1);
	cw_expect_object(&cw, "a", 10 * MiB + 1000, 5000, 2);
	cw_expect_object(&cw, "a", 10 * MiB + 6000, 22 * MiB - 6000, 1);
	assert_int_equal(store_memory_usage(cw.env.memory).sessions, 0);
	check_clean(&cw, f);
	/* And at both ends of it. */
	cw_fill(f, 0, 10, 3);
	cw_fill(f, 32 * MiB - 10, 20, 4);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), 32 * MiB + 10);
	cw_expect_object(&cw, "a", 0, 10, 3);
	cw_expect_object(&cw, "a", 32 * MiB - 10, 20, 4);
	cw_expect_object(&cw, "a", 12 * MiB, 20 * MiB - 10, 1);
	assert_in_range(cw_sent(&cw), CW_PART_MIN, 5 * CW_PART_MIN);
	cache_file_put(f);
	cw_end(&cw);
}

/* More changes than there are numbers of parts: several rounds. */
static void test_more_changes_than_parts(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;

	(void)state;
	options.pool = 16 * MiB;
	options.memory.parts_max = 20;
	options.memory.part_max = 64 * MiB;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 32 * MiB, 1);
	f = cw_open(&cw, "a");
	for (unsigned i = 0; i < 40; i++)
		cw_fill(f, i * 700000ull, 100, 2);
	assert_int_equal(cache_commit(f), 0);
	for (unsigned i = 0; i < 40; i++) {
		cw_expect_object(&cw, "a", i * 700000ull, 100, 2);
		cw_expect_object(&cw, "a", i * 700000ull + 100, 1000, 1);
	}
	assert_int_equal(cw_object_size(&cw, "a"), 32 * MiB);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* Much larger than the pool: parts leave while it is written, each byte once. */
static void test_stream(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;
	uint64_t before;

	(void)state;
	options.pool = 8 * MiB;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 20 * MiB, 1);
	before = cw_requests(&cw, STORE_PART);
	assert_true(before > 10);
	assert_int_equal(cw_requests(&cw, STORE_COMMIT), 0);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_requests(&cw, STORE_BEGIN), 1);
	assert_int_equal(cw_requests(&cw, STORE_COMMIT), 1);
	assert_int_equal(cw_sent(&cw), 20 * MiB);
	cw_expect_object(&cw, "a", 0, 20 * MiB, 1);
	check_clean(&cw, f);
	cw_expect(f, 5 * MiB, MiB, 1);
	cache_file_put(f);
	cw_end(&cw);
}

/* Without write-back a writer is not much faster than the storage, whatever the pool has. */
static void test_stream_bounded(void **state)
{
	struct store_fault slow = { .reply_delay_permille = 1000,
				    .delay_min_ns = 4 * MSEC,
				    .delay_max_ns = 8 * MSEC };
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;

	(void)state;
	options.pool = 64 * MiB;
	options.memory.parts_max = 10000; /* they do not grow */
	cw_start(&cw, &options);
	store_fault_set(cw.fault, 1u << STORE_PART, &slow);
	f = cw_create(&cw, "a");
	for (uint64_t offset = 0; offset < 16 * MiB; offset += 64 * KiB) {
		struct cache_storage_usage usage;

		cw_fill(f, offset, 64 * KiB, 1);
		cache_storage_usage(cw.storage, &usage);
		/* 3 in flight, 3 behind them, and what lies between. */
		assert_in_range(usage.dirty_bytes, 0, 7 * CW_PART);
	}
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 16 * MiB, 1);
	cache_file_put(f);
	cw_end(&cw);
}

/* What has left is read, rewritten, cut off. */
static void test_stream_disturbed(void **state)
{
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 12 * MiB, 1);
	cw_expect(f, 0, MiB, 1); /* needs a commit */
	assert_int_equal(cw_requests(&cw, STORE_COMMIT), 1);
	cw_fill(f, 12 * MiB, 12 * MiB, 1);
	cw_fill(f, 100, 100, 2);
	cw_fill(f, 13 * MiB + 100, 100, 2);
	assert_int_equal(cache_truncate(f, 23 * MiB + 5), 0);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), 23 * MiB + 5);
	cw_expect_object(&cw, "a", 0, 100, 1);
	cw_expect_object(&cw, "a", 100, 100, 2);
	cw_expect_object(&cw, "a", 200, 13 * MiB - 100, 1);
	cw_expect_object(&cw, "a", 13 * MiB + 100, 100, 2);
	cw_expect_object(&cw, "a", 13 * MiB + 200, 10 * MiB - 195, 1);
	assert_int_equal(store_memory_usage(cw.env.memory).sessions, 0);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

static bool is_streaming(struct cache_file *f)
{
	bool streaming;

	pthread_mutex_lock(&f->lock);
	streaming = f->streaming;
	pthread_mutex_unlock(&f->lock);
	return streaming;
}

/* A change near the beginning that is still in memory: its part again, nothing else. */
static void test_stream_header(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;

	(void)state;
	options.pool = 32 * MiB;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 8 * MiB, 1);
	cw_wait_for(cw_requests(&cw, STORE_PART) > 10 && !is_streaming(f));
	cw_fill(f, 10, 10, 2);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_requests(&cw, STORE_COMMIT), 1);
	assert_int_equal(cw_sent(&cw), 8 * MiB + CW_PART);
	cw_expect_object(&cw, "a", 10, 10, 2);
	cw_expect_object(&cw, "a", 20, 8 * MiB - 20, 1);
	cache_file_put(f);
	cw_end(&cw);
}

/* To the end of a large object: copied within the storage. */
static void test_append_large(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;

	(void)state;
	options.pool = 16 * MiB;
	options.memory.part_max = 64 * MiB;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 16 * MiB + 10, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 16 * MiB + 10, 8 * MiB, 1);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_requests(&cw, STORE_COPY_PART), 1);
	assert_in_range(cw_sent(&cw), 8 * MiB, 8 * MiB + CW_REGION);
	cw_expect_object(&cw, "a", 0, 24 * MiB + 10, 1);
	cache_file_put(f);
	cw_end(&cw);
}

/* Removed while parts are on their way: nothing of it stays. */
static void test_unlink(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;

	(void)state;
	options.pool = 32 * MiB; /* the cleaner has no reason to commit it */
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 8 * MiB, 1);
	cache_file_unlink(f);
	assert_int_equal(cache_commit(f), 0);
	cw_wait_for(store_memory_usage(cw.env.memory).sessions == 0);
	assert_int_equal(cw_object_size(&cw, "a"), -ENOENT);
	cache_file_put(f);
	cw_end(&cw);
}

/* What is unlinked stays readable for who has it, and is gone with him. */
static void test_unlinked_data(void **state)
{
	struct cw cw;
	struct cache_file *f;
	struct cache_storage_usage usage;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 100000, 1);
	cache_file_unlink(f);
	cw_fill(f, 100000, 100000, 1);
	cw_expect(f, 0, 200000, 1);
	cache_file_put(f);
	cache_storage_usage(cw.storage, &usage);
	assert_int_equal(usage.dirty_bytes, 0);
	assert_int_equal(usage.bytes, 0);
	assert_int_equal(cw_all_requests(&cw), 0);
	cw_end(&cw);
}

static void test_rename_created(void **state)
{
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 1000, 1);
	assert_int_equal(cache_file_rename(f, "b", NULL, NULL), 0);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), -ENOENT);
	cw_expect_object(&cw, "b", 0, 1000, 1);
	assert_int_equal(cw_all_requests(&cw), 1);
	assert_int_equal(cache_file_rename(f, "c", NULL, NULL), -EINVAL);
	cache_file_put(f);
	cw_end(&cw);
}

/* The time alone: a copy onto itself; with data: with it. */
static void test_mtime(void **state)
{
	struct cache_file_info info;
	struct store_meta meta;
	struct cw cw;
	struct cache_file *f;
	char none;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 1000, 1);
	f = cw_open(&cw, "a");
	cache_set_mtime(f, 123456789);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_requests(&cw, STORE_COPY), 1);
	assert_int_equal(cw_all_requests(&cw), 1);
	assert_int_equal(store_memory_read(cw.env.memory, "a", &none, 0, &meta), 0);
	assert_true(meta.has_user_mtime);
	assert_int_equal(meta.user_mtime_ns, 123456789);
	cw_fill(f, 0, 10, 2);
	cache_set_mtime(f, 55);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(store_memory_read(cw.env.memory, "a", &none, 0, &meta), 0);
	assert_int_equal(meta.user_mtime_ns, 55);
	cw_fill(f, 0, 10, 3);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(store_memory_read(cw.env.memory, "a", &none, 0, &meta), 0);
	cache_file_info(f, &info); /* of the write, not of the commit */
	assert_true(meta.has_user_mtime);
	assert_int_equal(meta.user_mtime_ns, info.mtime_ns);
	assert_int_not_equal(meta.user_mtime_ns, 55);
	cw_expect(f, 10, 990, 1);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* Of a stream the time is known only after its session began. */
static void test_mtime_of_stream(void **state)
{
	struct cw_options options = cw_defaults;
	struct store_meta meta;
	struct cw cw;
	struct cache_file *f;
	char none;

	(void)state;
	options.memory.copy_max = 4 * MiB; /* by parts, then */
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 8 * MiB, 1);
	cache_set_mtime(f, 77);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(store_memory_read(cw.env.memory, "a", &none, 0, &meta), 0);
	assert_int_equal(meta.user_mtime_ns, 77);
	cw_expect_object(&cw, "a", 0, 8 * MiB, 1);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* Somebody else was faster. */
static void test_conflict(void **state)
{
	struct cw cw;
	struct cache_file *f;
	char byte;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 1000, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 0, 500, 2);
	cw_other(&cw, "a", 1000, 3);
	assert_int_equal(cache_commit(f), -ESTALE);
	cw_expect_object(&cw, "a", 0, 1000, 3);
	assert_int_equal(cw_write(f, 0, "x", 1), -ESTALE);
	assert_int_equal(cw_read(f, 0, &byte, 1), -ESTALE);
	assert_int_equal(cache_commit(f), -ESTALE);
	assert_int_equal(store_memory_usage(cw.env.memory).objects, 1);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* With write-back our version is kept beside his. */
static void test_conflict_kept(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;
	uint32_t seen = 0;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 20 * MSEC;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_other(&cw, "a", 1000, 3);
	cw_fill(f, 0, 100000, 2); /* by one write, after which it may be lost at any time */
	cw_wait_for(store_memory_usage(cw.env.memory).objects == 2);
	assert_int_equal(cache_commit(f), -ESTALE);
	assert_int_equal(cache_file_error(f, &seen), -ESTALE);
	assert_int_equal(cache_file_error(f, &seen), 0);
	cw_expect_object(&cw, "a", 0, 1000, 3);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* A large one by an upload: where that fails nothing of it is left, and it is tried again. */
static void test_conflict_kept_at_last(void **state)
{
	struct store_fault refused = { .error_permille = 1000, .error = -EACCES, .count = 1 };
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 20 * MSEC;
	options.memory.part_max = 64 * MiB;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 32 * MiB, 1);
	f = cw_open(&cw, "a");
	cw_other(&cw, "a", 1000, 3);
	store_fault_set(cw.fault, 1u << STORE_COMMIT, &refused);
	cw_fill(f, 10 * MiB, 5000, 2);
	cw_wait_for(store_memory_usage(cw.env.memory).objects == 2);
	assert_int_equal(store_fault_stats(cw.fault).errors, 1);
	cw_wait_for(store_memory_usage(cw.env.memory).sessions == 0);
	cw_expect_object(&cw, "a", 0, 1000, 3);
	cache_file_put(f);
	cw_end(&cw);
}

static void test_conflict_overwritten(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;

	(void)state;
	options.config.conflict = CACHE_CONFLICT_OVERWRITE;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 500, 2);
	cw_other(&cw, "a", 1000, 3);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), 500);
	cw_expect_object(&cw, "a", 0, 500, 2);
	cache_file_put(f);
	cw_end(&cw);
}

/* The answer of a write was lost: it is recognised as ours, not taken for a conflict. */
static void test_lost_answer(void **state)
{
	struct store_fault lost = { .lost_permille = 1000, .count = 1 };
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 500, 1);
	store_fault_set(cw.fault, 1u << STORE_PUT, &lost);
	assert_int_equal(cache_commit(f), -EIO);
	cw_fill(f, 500, 500, 1);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 1000, 1);
	/* Of the end of a session, too; and of a copy. */
	cw_fill(f, 0, 4 * MiB, 2);
	store_fault_set(cw.fault, 1u << STORE_COMMIT, &lost);
	assert_int_equal(cache_commit(f), -EIO);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 4 * MiB, 2);
	cache_file_put(f);
	f = cw_create(&cw, "b");
	cw_fill(f, 0, 500, 1);
	assert_int_equal(cache_commit(f), 0);
	cache_set_mtime(f, 99);
	store_fault_set(cw.fault, 1u << STORE_COPY, &lost);
	assert_int_equal(cache_commit(f), -EIO);
	assert_int_equal(cache_commit(f), 0);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* Of a copy that was to set a time, after which another one was set. */
static void test_lost_answer_of_a_time(void **state)
{
	struct store_fault lost = { .lost_permille = 1000, .count = 1 };
	struct store_meta meta;
	struct cache_file *f;
	struct cw cw;
	char none;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 1000, 1);
	f = cw_open(&cw, "a");
	cache_set_mtime(f, 99);
	store_fault_set(cw.fault, 1u << STORE_COPY, &lost);
	assert_int_equal(cache_commit(f), -EIO);
	cache_set_mtime(f, 100);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(store_memory_read(cw.env.memory, "a", &none, 0, &meta), 0);
	assert_int_equal(meta.user_mtime_ns, 100);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* Repeated, it is refused because of what it did itself: of a copy nobody below finds that out. */
static void test_lost_answer_of_a_repeated_copy(void **state)
{
	struct store_fault lost = { .lost_permille = 1000, .count = 1 };
	struct cw_options options = cw_defaults;
	struct cache_file *known, *unknown;
	struct cw cw;

	(void)state;
	options.retry = true;
	cw_start(&cw, &options);
	known = cw_create(&cw, "known");
	cw_fill(known, 0, 1000, 1);
	assert_int_equal(cache_commit(known), 0);
	cw_other(&cw, "unknown", 1000, 1);
	unknown = cw_open(&cw, "unknown");
	cache_set_mtime(known, 99);
	store_fault_set(cw.fault, 1u << STORE_COPY, &lost);
	assert_int_equal(cache_commit(known), 0);
	cache_set_mtime(unknown, 99);
	store_fault_set(cw.fault, 1u << STORE_COPY, &lost);
	assert_int_equal(cache_commit(unknown), 0);
	assert_int_equal(store_fault_stats(cw.fault).lost, 2);
	check_clean(&cw, known);
	check_clean(&cw, unknown);
	cache_file_put(known);
	cache_file_put(unknown);
	cw_end(&cw);
}

/* The service over memory, which refuses one request: the first that comes after @left of its
 * kind. (What the fault layer does to a request is no attempt: the service was not asked.) */
static struct {
	const struct store_ops *memory;
	struct store_ops ops;
	_Atomic enum store_opcode opcode;
	_Atomic int left;
} refusing = { .left = -1 };

static void refusing_submit(struct store *store, struct store_op *op)
{
	if (op->opcode == atomic_load(&refusing.opcode) && atomic_fetch_sub(&refusing.left, 1) == 0)
		store_op_complete(op, -EDQUOT);
	else
		refusing.memory->submit(store, op);
}

static void refuse_second(enum store_opcode opcode)
{
	atomic_store(&refusing.opcode, opcode);
	atomic_store(&refusing.left, 1);
}

/* The first attempt was done and its answer lost; the second was refused for another reason. */
static void test_lost_answer_then_refused(void **state)
{
	struct store_fault lost = { .lost_permille = 1000, .count = 1 };
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.retry = true;
	cw_start(&cw, &options);
	refusing.memory = cw.env.memory->ops;
	refusing.ops = *refusing.memory;
	refusing.ops.submit = refusing_submit;
	cw.env.memory->ops = &refusing.ops;

	f = cw_create(&cw, "a");
	cw_fill(f, 0, 500, 1);
	store_fault_set(cw.fault, 1u << STORE_PUT, &lost);
	refuse_second(STORE_PUT);
	assert_int_equal(cache_commit(f), -EDQUOT);
	assert_int_equal(cw_object_size(&cw, "a"), 500);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 500, 1);

	cw_fill(f, 0, 1 * MiB, 2);
	store_fault_set(cw.fault, 1u << STORE_COMMIT, &lost);
	refuse_second(STORE_COMMIT);
	assert_int_equal(cache_commit(f), -EDQUOT);
	assert_int_equal(cw_object_size(&cw, "a"), 1 * MiB);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 1 * MiB, 2);
	check_clean(&cw, f);
	cache_file_put(f);
	cw_end(&cw);
}

/* Refused for good: the error is told once to each who asks, data stays, and goes out at last. */
static void test_background_error(void **state)
{
	struct store_fault refused = { .error_permille = 1000, .error = -EACCES };
	struct cw_options options = cw_defaults;
	struct cw cw;
	struct cache_file *f;
	uint32_t seen = 0, other = 0;
	int error;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 10 * MSEC;
	cw_start(&cw, &options);
	store_fault_set(cw.fault, 1u << STORE_PUT, &refused);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 500, 1);
	cw_wait_for((error = cache_file_error(f, &seen)) != 0);
	assert_int_equal(error, -EACCES);
	assert_int_equal(cache_file_error(f, &other), -EACCES);
	assert_int_equal(cache_commit(f), -EACCES);
	assert_int_equal(cache_storage_sync(cw.storage), -EACCES);
	assert_int_equal(cache_storage_drain(cw.storage, 300 * MSEC), 1);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	cw_wait_for(cw_object_size(&cw, "a") == 500);
	assert_int_equal(cache_storage_drain(cw.storage, SEC), 0);
	cache_file_put(f);
	cw_end(&cw);
}

/* A service that says at the first write that it knows no conditions: the last writer wins then. */
static void test_unconditional(void **state)
{
	struct store_fault unknown = { .error_permille = 1000, .error = -EOPNOTSUPP, .count = 1 };
	struct cache_file *f;
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_PUT, &unknown);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 500, 1);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 500, 1);
	assert_int_equal(store_memory_write(cw.env.memory, "a", "theirs", 6, NULL), 0);
	cw_fill(f, 0, 500, 2);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 500, 2);
	/* It was not that: nothing is gained without a condition. */
	unknown.count = 2;
	store_fault_set(cw.fault, 1u << STORE_PUT, &unknown);
	cw_fill(f, 0, 500, 3);
	assert_int_equal(cache_commit(f), -EIO);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 500, 3);
	cache_file_put(f);
	cw_end(&cw);
}

/* What could not be written at the end is named with the reason, which nobody else was told. */
static void test_not_written(void **state)
{
	struct store_fault refused = { .error_permille = 1000, .error = -ENOSPC };
	int saved = dup(STDERR_FILENO), pipes[2];
	enum log_level level = log_get_level();
	struct cache_file *f;
	char text[4096];
	struct cw cw;
	ssize_t n;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_PUT, &refused);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 500, 1);
	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	close(pipes[1]);
	log_set_level(LOG_LEVEL_ERROR);
	assert_int_equal(cache_storage_drain(cw.storage, 300 * MSEC), 1);
	log_set_level(level);
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(pipes[0], text, sizeof(text) - 1);
	close(pipes[0]);
	text[n > 0 ? n : 0] = '\0';
	assert_non_null(strstr(text, "not_written key=\"a\" size=500 "
				     "error=\"No space left on device\""));
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(cache_storage_drain(cw.storage, 10 * SEC), 0);
	cache_file_put(f);
	cw_end(&cw);
}

/* The service forgets the session: what is in memory goes in another one. */
static void test_session_vanishes(void **state)
{
	struct store_fault gone = { .error_permille = 1000, .error = -ENOENT, .count = 1 };
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 4 * MiB, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 2 * MiB, 1000, 2);
	store_fault_set(cw.fault, 1u << STORE_COMMIT, &gone);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 2 * MiB, 1000, 2);
	cw_expect_object(&cw, "a", 2 * MiB + 1000, 2 * MiB - 1000, 1);
	cache_file_put(f);
	cw_end(&cw);
}

/* Without a handle that asks: by the cleaner, with write-back after the delay. */
static void test_cleaner(void **state)
{
	struct cw_options options = cw_defaults;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 100 * MSEC;
	cw_start(&cw, &options);
	for (unsigned i = 0; i < 50; i++) {
		struct cache_file *f;
		char key[16];

		snprintf(key, sizeof(key), "file-%u", i);
		f = cw_create(&cw, key);
		cw_fill(f, 0, 5000, i + 1);
		cache_file_put(f);
	}
	assert_int_equal(cw_all_requests(&cw), 0);
	cw_wait_for(store_memory_usage(cw.env.memory).objects == 50);
	cw_wait_for(cw.storage->dirty_files == 0);
	assert_int_equal(cw_all_requests(&cw), 50);
	for (unsigned i = 0; i < 50; i++) {
		char key[16];

		snprintf(key, sizeof(key), "file-%u", i);
		cw_expect_object(&cw, key, 0, 5000, i + 1);
	}
	cw_end(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_partial_change),
		cmocka_unit_test(test_more_changes_than_parts),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_stream_bounded),
		cmocka_unit_test(test_stream_disturbed),
		cmocka_unit_test(test_stream_header),
		cmocka_unit_test(test_append_large),
		cmocka_unit_test(test_unlink),
		cmocka_unit_test(test_unlinked_data),
		cmocka_unit_test(test_rename_created),
		cmocka_unit_test(test_mtime),
		cmocka_unit_test(test_mtime_of_stream),
		cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_conflict_kept),
		cmocka_unit_test(test_conflict_kept_at_last),
		cmocka_unit_test(test_conflict_overwritten),
		cmocka_unit_test(test_lost_answer),
		cmocka_unit_test(test_lost_answer_of_a_time),
		cmocka_unit_test(test_lost_answer_of_a_repeated_copy),
		cmocka_unit_test(test_lost_answer_then_refused),
		cmocka_unit_test(test_background_error),
		cmocka_unit_test(test_not_written),
		cmocka_unit_test(test_unconditional),
		cmocka_unit_test(test_session_vanishes),
		cmocka_unit_test(test_cleaner),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
