/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations of several threads through a whole stack with faults, against a
 * model: no wrong byte, no lost acknowledged write.
 *
 * Each thread has keys of its own, of which it knows every byte: what it was told
 * has been stored must be there. An outcome that is not known (-EIO, -ETIMEDOUT,
 * -ECANCELED) leaves a key with several contents that it may have, until a read
 * shows which. Beside them there are keys that all share: a counter that everybody
 * increments under conditions, and an object of one repeated byte that somebody
 * overwrites behind the stack's back, which nobody may ever see half of.
 *
 * STORE_MODEL_SEED and STORE_MODEL_STEPS in the environment repeat or lengthen it.
 */
#include "store-fixture.h"

#include "store/layers/fault.h"
#include "store/layers/limit.h"
#include "store/layers/metrics.h"
#include "store/layers/retry.h"
#include "store/layers/throttle.h"
#include "store/layers/timeout.h"
#include "store/random.h"

#define THREADS 4
#define KEYS 6	   /* of each thread */
#define CONTENTS 6 /* that a key may have at one time */
#define SIZE_MAX_ 2000
#define PART_MIN 16
#define UNIFORM_SIZE 3000

/* What an object may be. */
struct content {
	bool present;
	size_t len;
	unsigned char bytes[SIZE_MAX_];
};

struct key {
	char name[16];
	unsigned count; /* of contents; 1: certain */
	struct content contents[CONTENTS];
	char etag[STORE_ETAG_MAX]; /* certain and present; "" when not known */
};

struct world {
	struct env env;
	struct store *fault, *retry;
	_Atomic unsigned added, maybe_added; /* to the counter */
	_Atomic bool ended;
};

struct player {
	struct world *world;
	pthread_t thread;
	unsigned number, steps;
	struct store_random random;
	struct key keys[KEYS];
	unsigned acknowledged, unknown, refused;
	const char *complaint;
	struct content fresh;
};

static uint64_t draw(struct player *p, uint64_t bound)
{
	return store_random_below(&p->random, bound);
}

static bool is_unknown(int result)
{
	return result == -EIO || result == -ETIMEDOUT || result == -ECANCELED;
}

#define CHECK(p, condition)                                                                        \
	do {                                                                                       \
		if (!(condition) && !(p)->complaint)                                               \
			(p)->complaint = #condition;                                               \
	} while (0)

/* ---- The model of a key ---- */

static void key_settle(struct key *key, const struct content *content, const char *etag)
{
	memmove(&key->contents[0], content, sizeof(*content));
	key->count = 1;
	memcpy(key->etag, etag, strlen(etag) + 1);
}

/* After a write whose outcome is @result; @content: what it would leave. */
static void key_written(struct player *p, struct key *key, const struct content *content,
			int result, const char *etag)
{
	if (result == 0) {
		p->acknowledged++;
		CHECK(p, !content->present || *etag);
		key_settle(key, content, etag);
	} else if (is_unknown(result)) {
		p->unknown++;
		key->contents[key->count++] = *content;
		key->etag[0] = '\0';
	} else {
		p->refused++;
	}
}

static bool content_matches(const struct content *content, uint64_t offset,
			    const unsigned char *buf, size_t len, size_t asked)
{
	size_t there;

	if (!content->present || offset >= content->len)
		return false;
	there = MIN(content->len - (size_t)offset, asked);
	return there == len && memcmp(content->bytes + offset, buf, len) == 0;
}

/* ---- Operations on a key of one's own ---- */

static struct key *any_key(struct player *p)
{
	return &p->keys[draw(p, KEYS)];
}

static struct content *fresh_content(struct player *p)
{
	p->fresh.present = true;
	p->fresh.len = PART_MIN + draw(p, SIZE_MAX_ - PART_MIN);
	for (size_t i = 0; i < p->fresh.len; i++)
		p->fresh.bytes[i] = (unsigned char)store_random_next(&p->random);
	return &p->fresh;
}

/* Submits, cancels it now and then at some moment, waits. */
static int play(struct player *p, struct call *call)
{
	if (draw(p, 50))
		return store_call(p->world->env.top, &call->op);
	call_submit(&p->world->env, call);
	for (uint64_t spin = draw(p, 20000); spin; spin--)
		__asm__ volatile("");
	store_cancel(&call->op);
	return call_wait(call);
}

/* A condition that holds, if the model is certain; sometimes none. */
static void set_condition(struct player *p, const struct key *key, struct store_op *op)
{
	if (key->count != 1 || draw(p, 3) == 0)
		return;
	if (!key->contents[0].present)
		op->if_absent = true;
	else if (key->etag[0])
		op->if_match = key->etag;
}

static void play_put(struct player *p)
{
	struct key *key = any_key(p);
	struct content *content = fresh_content(p);
	char write_id[STORE_WRITE_ID_MAX], etag[STORE_ETAG_MAX];
	struct call call = {
		.op = { .opcode = STORE_PUT, .key = key->name, .write_id = write_id }
	};
	int result;

	if (key->count == CONTENTS)
		return;
	store_write_id(write_id);
	memcpy(etag, key->etag, sizeof(etag));
	set_condition(p, key, &call.op);
	if (call.op.if_match)
		call.op.if_match = etag;
	call_body(&call, content->bytes, content->len);
	result = play(p, &call);
	/* nobody else writes here: the condition held */
	CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN);
	key_written(p, key, content, result, call.op.meta.etag);
}

/* Sends @content in parts, the first maybe as a copy of @source's beginning. */
static int send_parts(struct player *p, struct call *call, const struct content *content,
		      const struct key *source, size_t copied, struct store_part parts[8],
		      const char *session, const char *name)
{
	size_t sent = 0;
	uint32_t number = 0;
	int result = 0;

	while (sent < content->len && result == 0) {
		size_t left = content->len - sent;
		size_t len = number == 7 ? left : MIN(left, PART_MIN + draw(p, left));

		call->op = (struct store_op){ .opcode = STORE_PART,
					      .key = name,
					      .session = session,
					      .part_number = number + 1 };
		if (number == 0 && copied) {
			len = copied;
			call->op.opcode = STORE_COPY_PART;
			call->op.source_key = source->name;
			call->op.source_if_match = source->etag;
			call->op.length = len;
		} else {
			call_body(call, content->bytes + sent, len);
		}
		result = play(p, call);
		CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN);
		parts[number].number = number + 1;
		memcpy(parts[number].etag, call->op.meta.etag, STORE_ETAG_MAX);
		number++;
		sent += len;
	}
	call->op = (struct store_op){ .part_count = number };
	return result;
}

static void play_session(struct player *p)
{
	struct key *key = any_key(p), *source = any_key(p);
	struct content *content = fresh_content(p);
	struct store_part parts[8];
	char write_id[STORE_WRITE_ID_MAX], session[STORE_SESSION_MAX], etag[STORE_ETAG_MAX];
	struct call call = {
		.op = { .opcode = STORE_BEGIN, .key = key->name, .write_id = write_id }
	};
	size_t copied = 0;
	int result;

	if (key->count == CONTENTS)
		return;
	if (source->etag[0] && source->contents[0].len >= PART_MIN) {
		copied = MIN(source->contents[0].len, content->len);
		memcpy(content->bytes, source->contents[0].bytes, copied);
	}
	store_write_id(write_id);
	result = play(p, &call);
	CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN);
	if (result)
		return;
	memcpy(session, call.op.session_out, sizeof(session));
	result = send_parts(p, &call, content, source, copied, parts, session, key->name);
	if (result || draw(p, 10) == 0) {
		call.op = (struct store_op){ .opcode = STORE_ABORT,
					     .key = key->name,
					     .session = session };
		result = play(p, &call);
		CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN);
		return;
	}
	memcpy(etag, key->etag, sizeof(etag));
	call.op = (struct store_op){ .opcode = STORE_COMMIT,
				     .key = key->name,
				     .session = session,
				     .write_id = write_id,
				     .parts = parts,
				     .part_count = call.op.part_count };
	set_condition(p, key, &call.op);
	if (call.op.if_match)
		call.op.if_match = etag;
	result = play(p, &call);
	CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN);
	key_written(p, key, content, result, call.op.meta.etag);
}

static void play_delete(struct player *p)
{
	static const struct content absent;
	struct key *key = any_key(p);
	struct call call = { .op = { .opcode = STORE_DELETE, .key = key->name } };
	int result;

	if (key->count == CONTENTS)
		return;
	if (key->etag[0] && draw(p, 2))
		call.op.if_match = key->etag;
	result = play(p, &call);
	CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN);
	key_written(p, key, &absent, result, "");
}

static void play_delete_batch(struct player *p)
{
	static const struct content absent;
	const char *names[KEYS];
	struct key *keys[KEYS];
	int results[KEYS], result;
	struct call call = {
		.op = { .opcode = STORE_DELETE_BATCH, .keys = names, .key_results = results }
	};
	size_t count = 0;

	for (unsigned i = 0; i < KEYS; i++) {
		if (p->keys[i].count == CONTENTS || draw(p, 3))
			continue;
		keys[count] = &p->keys[i];
		names[count++] = p->keys[i].name;
	}
	if (count == 0)
		return;
	call.op.key_count = count;
	result = play(p, &call);
	CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN);
	for (size_t i = 0; i < count; i++)
		key_written(p, keys[i], &absent, result ? result : results[i], "");
}

static void play_copy(struct player *p)
{
	struct key *from = any_key(p), *to = any_key(p);
	struct call call = {
		.op = { .opcode = STORE_COPY, .key = to->name, .source_key = from->name }
	};
	int result;

	if (from->count != 1 || to->count == CONTENTS || from == to)
		return;
	result = play(p, &call);
	CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN ||
			 (result == -ENOENT && !from->contents[0].present));
	CHECK(p, result != 0 || from->contents[0].present);
	if (result != -ENOENT)
		key_written(p, to, &from->contents[0], result, call.op.meta.etag);
}

static void play_read(struct player *p)
{
	struct key *key = any_key(p);
	bool whole = draw(p, 2) == 0, absent = false;
	unsigned char buf[SIZE_MAX_ + 1] = { 0 };
	struct call call = { .op = { .opcode = STORE_READ,
				     .key = key->name,
				     .offset = whole ? 0 : draw(p, SIZE_MAX_) } };
	size_t asked = whole ? sizeof(buf) : 1 + draw(p, sizeof(buf));
	unsigned found = CONTENTS;
	int result;

	if (key->etag[0] && draw(p, 2))
		call.op.if_match = key->etag;
	call_body(&call, buf, asked);
	result = play(p, &call);
	if (is_unknown(result) || result == -EAGAIN)
		return;
	for (unsigned i = 0; i < key->count; i++) {
		const struct content *content = &key->contents[i];

		absent |= !content->present;
		if (result == -ERANGE && content->present && call.op.offset >= content->len)
			found = i;
		if (result == 0 &&
		    content_matches(content, call.op.offset, buf, call.op.done, asked))
			found = i;
	}
	CHECK(p, result == 0 || result == -ERANGE || result == -ENOENT);
	CHECK(p, result != -ENOENT || absent);
	CHECK(p, result == -ENOENT || found < CONTENTS);
	if (found < CONTENTS && whole)
		key_settle(key, &key->contents[found], call.op.meta.etag);
}

struct rows {
	struct call call;
	struct store_page page;
	unsigned seen[KEYS];
	unsigned strange;
};

static void add_row(struct store_op *op, const struct store_entry *entry)
{
	struct rows *rows = container_of(container_of(op, struct call, op), struct rows, call);

	/* "NUMBER/INDEX" */
	if (entry->key_len == 3 && entry->key[2] >= '0' && entry->key[2] < '0' + KEYS)
		rows->seen[entry->key[2] - '0']++;
	else
		rows->strange++;
}

static void forget_rows(struct store_op *op)
{
	struct rows *rows = container_of(container_of(op, struct call, op), struct rows, call);

	memset(rows->seen, 0, sizeof(rows->seen));
	rows->strange = 0;
}

static void play_list(struct player *p)
{
	char prefix[16];
	struct rows rows = { .call.op = { .opcode = STORE_LIST,
					  .key = prefix,
					  .list = { .entry = add_row, .restart = forget_rows } } };
	int result;

	rows.call.op.list.page = &rows.page;
	snprintf(prefix, sizeof(prefix), "%u/", p->number);
	result = play(p, &rows.call);
	if (result) {
		CHECK(p, is_unknown(result) || result == -EAGAIN);
		return;
	}
	CHECK(p, rows.strange == 0);
	for (unsigned i = 0; i < KEYS; i++) {
		if (p->keys[i].count == 1)
			CHECK(p, rows.seen[i] == p->keys[i].contents[0].present);
		CHECK(p, rows.seen[i] <= 1);
	}
}

/* ---- What all share ---- */

static void play_counter(struct player *p)
{
	char text[32] = "", write_id[STORE_WRITE_ID_MAX], etag[STORE_ETAG_MAX];
	struct call call = { .op = { .opcode = STORE_READ, .key = "counter" } };
	int result;

	call_body(&call, text, sizeof(text) - 1);
	result = play(p, &call);
	CHECK(p, result == 0 || result == -ENOENT || is_unknown(result) || result == -EAGAIN);
	if (result != 0 && result != -ENOENT)
		return;
	memcpy(etag, call.op.meta.etag, sizeof(etag));
	snprintf(text, sizeof(text), "%lu", result ? 1 : strtoul(text, NULL, 10) + 1);
	store_write_id(write_id);
	call.op = (struct store_op){ .opcode = STORE_PUT,
				     .key = "counter",
				     .write_id = write_id,
				     .if_match = result ? NULL : etag,
				     .if_absent = result != 0 };
	call_body(&call, text, strlen(text));
	result = play(p, &call);
	CHECK(p, result == 0 || result == -ESTALE || result == -EEXIST || is_unknown(result) ||
			 result == -EAGAIN);
	if (result == 0)
		atomic_fetch_add(&p->world->added, 1);
	/* An attempt that was done and built upon before the next is not known. */
	else if (is_unknown(result) || call.op.attempts > 1)
		atomic_fetch_add(&p->world->maybe_added, 1);
}

static void play_uniform(struct player *p)
{
	unsigned char buf[UNIFORM_SIZE];
	struct call call = { .op = { .opcode = STORE_READ, .key = "uniform" } };
	int result;

	memset(buf, 0, sizeof(buf));
	call_body(&call, buf, sizeof(buf));
	result = play(p, &call);
	CHECK(p, result == 0 || is_unknown(result) || result == -EAGAIN || result == -ESTALE);
	if (result)
		return;
	CHECK(p, call.op.done == sizeof(buf));
	CHECK(p, memcmp(buf, buf + 1, sizeof(buf) - 1) == 0);
	CHECK(p, buf[0] != 0);
}

static void *overwrite_uniform(void *arg)
{
	struct world *world = arg;
	unsigned char bytes[UNIFORM_SIZE];

	for (unsigned i = 0; !atomic_load(&world->ended); i++) {
		memset(bytes, (int)(i % 255 + 1), sizeof(bytes));
		store_memory_write(world->env.memory, "uniform", bytes, sizeof(bytes), NULL);
		usleep(200);
	}
	return NULL;
}

/* ---- The game ---- */

static void *player_run(void *arg)
{
	static void (*const plays[])(struct player *) = {
		play_put,	   play_put,	 play_session, play_session, play_delete,
		play_delete_batch, play_copy,	 play_read,    play_read,    play_read,
		play_list,	   play_counter, play_uniform,
	};
	struct player *p = arg;

	for (unsigned step = 0; step < p->steps && !p->complaint; step++)
		plays[draw(p, ARRAY_SIZE(plays))](p);
	return NULL;
}

static void world_begin(struct world *w, uint64_t seed)
{
	static const struct store_memory_options options = { .bytes_max = 1 << 28,
							     .part_min = PART_MIN,
							     .part_max = 1 << 20,
							     .parts_max = 8,
							     .put_max = 1 << 20,
							     .copy_max = 1 << 20,
							     .list_max = 1000 };
	static const struct store_timeout_options silence = { .silence_min_ns = 20 * MSEC,
							      .silence_max_ns = 40 * MSEC,
							      .server_max_ns = 40 * MSEC };
	static const struct store_limit_options limit = { .in_flight_max = { 2, 2 } };
	static const struct store_throttle_options rate = { .up = { 100 << 20, 0 },
							    .down = { 100 << 20, 0 } };
	static const struct store_retry_options retry = { .attempts_max = 3,
							  .pause_first_ns = MSEC / 4,
							  .pause_max_ns = MSEC };
	static const struct store_fault faults = { .error_permille = 60,
						   .lost_permille = 100,
						   .cut_permille = 100,
						   .delay_permille = 30,
						   .reply_delay_permille = 30,
						   .delay_min_ns = 0,
						   .delay_max_ns = MSEC };

	memset(w, 0, sizeof(*w));
	env_memory(&w->env, &options);
	env_ok(store_fault_new(&w->env.top, w->env.top, seed));
	w->fault = w->env.top;
	store_fault_set(w->fault, STORE_FAULT_ALL, &faults);
	env_ok(store_timeout_new(&w->env.top, w->env.top, &silence));
	env_ok(store_limit_new(&w->env.top, w->env.top, &limit));
	env_ok(store_throttle_new(&w->env.top, w->env.top, &rate));
	env_ok(store_retry_new(&w->env.top, w->env.top, &retry));
	w->retry = w->env.top;
	env_ok(store_metrics_new(&w->env.top, w->env.top));
	env_run(&w->env);
}

/* Answers that never come, now and then, so that time-outs are met. */
static void world_stick(struct world *w)
{
	static const struct store_fault stuck = { .delay_permille = 500,
						  .reply_delay_permille = 500,
						  .delay_min_ns = STORE_FAULT_FOREVER,
						  .count = 3 };
	struct store_fault faults = { .error_permille = 60,
				      .lost_permille = 100,
				      .cut_permille = 100 };

	store_fault_set(w->fault, STORE_FAULT_ALL, &stuck);
	sleep_ms(20);
	store_fault_set(w->fault, STORE_FAULT_ALL, &faults);
}

/* Everything that a player knows for certain is there, read with no fault in the way. */
static void check_player(struct world *w, struct player *p)
{
	unsigned char buf[SIZE_MAX_];
	struct store_meta meta;

	for (unsigned i = 0; i < KEYS; i++) {
		const struct key *key = &p->keys[i];
		int err = store_memory_read(w->env.memory, key->name, buf, sizeof(buf), &meta);
		bool found = false;

		for (unsigned c = 0; c < key->count; c++) {
			const struct content *content = &key->contents[c];

			found |= content->present
					 ? !err && meta.size == content->len &&
						   !memcmp(buf, content->bytes, content->len)
					 : err == -ENOENT;
		}
		if (!found)
			fail_msg("%s is none of the %u contents that it may have", key->name,
				 key->count);
		if (key->etag[0])
			assert_string_equal(key->etag, meta.etag);
	}
}

static void check_counter(struct world *w)
{
	char text[32] = "0";
	unsigned long value;

	store_memory_read(w->env.memory, "counter", text, sizeof(text) - 1, NULL);
	value = strtoul(text, NULL, 10);
	print_message("counter %lu, acknowledged %u, not known %u\n", value, w->added,
		      w->maybe_added);
	assert_in_range(value, w->added, w->added + w->maybe_added);
}

static unsigned long setting(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 10) : otherwise;
}

static void nothing_is_wrong_or_lost(void **state)
{
	unsigned long seed = setting("STORE_MODEL_SEED", (unsigned long)loop_now_ns());
	unsigned long steps = setting("STORE_MODEL_STEPS", 1500);
	struct player *players = calloc(THREADS, sizeof(*players));
	struct world world;
	struct store_retry_stats stats;
	pthread_t other;

	(void)state;
	assert_non_null(players);
	print_message("STORE_MODEL_SEED=%lu STORE_MODEL_STEPS=%lu\n", seed, steps);
	world_begin(&world, seed);
	assert_int_equal(store_memory_write(world.env.memory, "uniform", "", 0, NULL), 0);
	assert_int_equal(pthread_create(&other, NULL, overwrite_uniform, &world), 0);
	while (store_memory_usage(world.env.memory).bytes == 0)
		sleep_ms(1);
	for (unsigned i = 0; i < THREADS; i++) {
		struct player *p = &players[i];

		p->world = &world;
		p->number = i;
		p->steps = (unsigned)steps;
		store_random_seed(&p->random, seed * THREADS + i + 1);
		for (unsigned k = 0; k < KEYS; k++) {
			snprintf(p->keys[k].name, sizeof(p->keys[k].name), "%u/%u", i, k);
			p->keys[k].count = 1;
		}
		assert_int_equal(pthread_create(&p->thread, NULL, player_run, p), 0);
	}
	for (unsigned i = 0; i < 10; i++)
		world_stick(&world);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(players[i].thread, NULL);
	atomic_store(&world.ended, true);
	pthread_join(other, NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		struct player *p = &players[i];

		if (p->complaint)
			fail_msg("player %u: %s", i, p->complaint);
		print_message("player %u: %u acknowledged, %u not known, %u refused\n", i,
			      p->acknowledged, p->unknown, p->refused);
		assert_true(p->acknowledged > steps / 10);
		check_player(&world, p);
	}
	check_counter(&world);
	stats = store_retry_stats(world.retry);
	print_message("repeated %lu, resumed %lu, compared %lu, ours %lu, given up %lu\n",
		      stats.repeated, stats.resumed, stats.compared, stats.ours, stats.given_up);
	assert_true(stats.resumed > 0 && stats.ours > 0);
	env_end(&world.env);
	free(players);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_wrong_or_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
