/* SPDX-License-Identifier: Apache-2.0 */
#include "store-fixture.h"

#include <time.h>

const struct store_memory_options env_small = {
	.bytes_max = 4096,
	.part_min = 4,
	.part_max = 64,
	.parts_max = 8,
	.put_max = 100,
	.copy_max = 100,
	.list_max = 5,
};

void sleep_ms(unsigned ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

void env_ok(struct err *e)
{
	if (e)
		fail_msg("%s", err_msg(e));
}

/* ---- The holding service ---- */

struct hold {
	struct store store;
	pthread_mutex_t lock; /* covers what follows */
	struct store_op *held[64];
	unsigned count, total, peak;
	int cancel_result;
};

static struct hold *hold_of(struct store *store)
{
	return container_of(store, struct hold, store);
}

static void hold_submit(struct store *store, struct store_op *op)
{
	struct hold *hold = hold_of(store);

	pthread_mutex_lock(&hold->lock);
	assert_in_range(hold->count, 0, ARRAY_SIZE(hold->held) - 1);
	hold->held[hold->count++] = op;
	hold->total++;
	hold->peak = MAX(hold->peak, hold->count);
	pthread_mutex_unlock(&hold->lock);
}

/* Takes the operation of @index out; transfer loop. */
static struct store_op *hold_take(struct hold *hold, unsigned index)
{
	struct store_op *op;

	pthread_mutex_lock(&hold->lock);
	assert_in_range(index, 0, hold->count - 1);
	op = hold->held[index];
	hold->count--;
	memmove(hold->held + index, hold->held + index + 1,
		(hold->count - index) * sizeof(hold->held[0]));
	pthread_mutex_unlock(&hold->lock);
	return op;
}

static void hold_cancel(struct store *store, struct store_op *op)
{
	struct hold *hold = hold_of(store);
	unsigned index;
	int result;

	pthread_mutex_lock(&hold->lock);
	for (index = 0; index < hold->count && hold->held[index] != op; index++)
		;
	result = hold->cancel_result > 0 ? -ECANCELED : hold->cancel_result;
	pthread_mutex_unlock(&hold->lock);
	store_op_complete(hold_take(hold, index), result);
}

static void hold_free(struct store *store)
{
	struct hold *hold = hold_of(store);

	pthread_mutex_destroy(&hold->lock);
	free(hold);
}

static const struct store_ops hold_ops = {
	.name = "hold",
	.submit = hold_submit,
	.cancel = hold_cancel,
	.free = hold_free,
};

unsigned hold_count(struct env *env)
{
	struct hold *hold = hold_of(env->hold);
	unsigned count;

	pthread_mutex_lock(&hold->lock);
	count = hold->count;
	pthread_mutex_unlock(&hold->lock);
	return count;
}

unsigned hold_total(struct env *env)
{
	struct hold *hold = hold_of(env->hold);
	unsigned total;

	pthread_mutex_lock(&hold->lock);
	total = hold->total;
	pthread_mutex_unlock(&hold->lock);
	return total;
}

unsigned hold_peak(struct env *env)
{
	struct hold *hold = hold_of(env->hold);
	unsigned peak;

	pthread_mutex_lock(&hold->lock);
	peak = hold->peak;
	pthread_mutex_unlock(&hold->lock);
	return peak;
}

void hold_wait(struct env *env, unsigned count)
{
	for (unsigned ms = 0; hold_count(env) != count; ms++) {
		if (ms == 10000)
			fail_msg("%u operations held, not %u", hold_count(env), count);
		sleep_ms(1);
	}
}

void hold_cancel_result(struct env *env, int result)
{
	struct hold *hold = hold_of(env->hold);

	pthread_mutex_lock(&hold->lock);
	hold->cancel_result = result;
	pthread_mutex_unlock(&hold->lock);
}

struct hold_job {
	struct hold *hold;
	int result;
	uint64_t bytes;
};

static void run_release(void *arg)
{
	struct hold_job *job = arg;

	store_op_complete(hold_take(job->hold, 0), job->result);
}

void hold_release(struct env *env, int result)
{
	struct hold_job job = { .hold = hold_of(env->hold), .result = result };

	env_on_loop(env, run_release, &job);
}

static void run_move(void *arg)
{
	struct hold_job *job = arg;

	if (job->hold->count) /* else it is over; only this thread takes away */
		store_op_moved(job->hold->held[0], job->bytes);
}

void hold_move(struct env *env, uint64_t bytes)
{
	struct hold_job job = { .hold = hold_of(env->hold), .bytes = bytes };

	env_on_loop(env, run_move, &job);
}

/* ---- Building ---- */

void env_memory(struct env *env, const struct store_memory_options *options)
{
	*env = (struct env){ 0 };
	env_ok(loop_new(&env->loop));
	env_ok(store_memory_new(&env->memory, env->loop, options));
	env->top = env->memory;
}

void env_hold(struct env *env)
{
	struct hold *hold = calloc(1, sizeof(*hold));

	*env = (struct env){ 0 };
	env_ok(loop_new(&env->loop));
	assert_non_null(hold);
	store_init(&hold->store, &hold_ops, env->loop);
	hold->store.caps = (struct store_caps){ .if_match = true,
						.write_if_match = true,
						.if_absent = true,
						.sessions = true,
						.copy = true,
						.copy_part = true,
						.write_id = true,
						.part_max = 1 << 20,
						.parts_max = 100,
						.put_max = 1 << 20,
						.list_max = 1000 };
	hold->cancel_result = 1;
	pthread_mutex_init(&hold->lock, NULL);
	env->hold = env->top = &hold->store;
}

static void *env_thread(void *arg)
{
	loop_run(arg);
	return NULL;
}

/* With a small stack: what recurses as deep as a queue is long shall not survive. */
void env_run(struct env *env)
{
	pthread_attr_t attr;

	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, 512 << 10), 0);
	assert_int_equal(pthread_create(&env->thread, &attr, env_thread, env->loop), 0);
	pthread_attr_destroy(&attr);
}

void env_end(struct env *env)
{
	loop_stop(env->loop);
	pthread_join(env->thread, NULL);
	store_free(env->top);
	loop_free(env->loop);
}

struct loop_job {
	struct loop_task task;
	void (*run)(void *arg);
	void *arg;
	_Atomic bool done;
};

static void run_job(struct loop_task *task)
{
	struct loop_job *job = container_of(task, struct loop_job, task);

	job->run(job->arg);
	atomic_store(&job->done, true);
}

void env_on_loop(struct env *env, void (*run)(void *arg), void *arg)
{
	struct loop_job job = { .task.run = run_job, .run = run, .arg = arg };

	loop_post(env->loop, &job.task);
	while (!atomic_load(&job.done))
		sleep_ms(1);
}

/* ---- Calls ---- */

void call_body(struct call *call, const void *data, size_t len)
{
	call->iov = (struct iovec){ .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	call->op.data = iov_cursor(&call->iov, 1);
}

static void call_completed(struct store_op *op)
{
	atomic_store(&container_of(op, struct call, op)->completed, true);
}

void call_submit(struct env *env, struct call *call)
{
	atomic_store(&call->completed, false);
	call->op.complete = call_completed;
	store_submit(env->top, &call->op);
}

int call_wait(struct call *call)
{
	for (unsigned ms = 0; !atomic_load(&call->completed); ms++) {
		if (ms == 20000)
			fail_msg("%s does not end", store_opcode_name(call->op.opcode));
		sleep_ms(1);
	}
	return call->op.result;
}

int env_put_if(struct env *env, const char *key, const void *data, size_t len, const char *if_match,
	       bool if_absent, struct store_meta *meta)
{
	struct call call = { .op = { .opcode = STORE_PUT,
				     .key = key,
				     .if_match = if_match,
				     .if_absent = if_absent } };

	call_body(&call, data, len);
	store_call(env->top, &call.op);
	if (meta)
		*meta = call.op.meta;
	return call.op.result;
}

int env_put(struct env *env, const char *key, const void *data, size_t len)
{
	return env_put_if(env, key, data, len, NULL, false, NULL);
}

ssize_t env_read(struct env *env, const char *key, uint64_t offset, void *buf, size_t len,
		 const char *if_match, struct store_meta *meta)
{
	struct call call = {
		.op = { .opcode = STORE_READ, .key = key, .offset = offset, .if_match = if_match }
	};

	call_body(&call, buf, len);
	store_call(env->top, &call.op);
	if (meta)
		*meta = call.op.meta;
	return call.op.result ? call.op.result : (ssize_t)call.op.done;
}

int env_stat(struct env *env, const char *key, struct store_meta *meta)
{
	struct call call = { .op = { .opcode = STORE_STAT, .key = key } };

	store_call(env->top, &call.op);
	if (meta)
		*meta = call.op.meta;
	return call.op.result;
}

int env_delete(struct env *env, const char *key)
{
	struct call call = { .op = { .opcode = STORE_DELETE, .key = key } };

	return store_call(env->top, &call.op);
}

int env_begin(struct env *env, const char *key, char session[STORE_SESSION_MAX])
{
	struct call call = { .op = { .opcode = STORE_BEGIN, .key = key } };

	store_call(env->top, &call.op);
	memcpy(session, call.op.session_out, STORE_SESSION_MAX);
	return call.op.result;
}

int env_part(struct env *env, const char *key, const char *session, uint32_t number,
	     const void *data, size_t len, struct store_part *part)
{
	struct call call = { .op = { .opcode = STORE_PART,
				     .key = key,
				     .session = session,
				     .part_number = number } };

	call_body(&call, data, len);
	store_call(env->top, &call.op);
	if (part) {
		part->number = number;
		memcpy(part->etag, call.op.meta.etag, sizeof(part->etag));
		memcpy(part->checksum, call.op.checksum, sizeof(part->checksum));
	}
	return call.op.result;
}

int env_commit(struct env *env, const char *key, const char *session,
	       const struct store_part *parts, size_t count, struct store_meta *meta)
{
	struct call call = { .op = { .opcode = STORE_COMMIT,
				     .key = key,
				     .session = session,
				     .parts = parts,
				     .part_count = count } };

	store_call(env->top, &call.op);
	if (meta)
		*meta = call.op.meta;
	return call.op.result;
}

int env_abort(struct env *env, const char *key, const char *session)
{
	struct call call = { .op = { .opcode = STORE_ABORT, .key = key, .session = session } };

	return store_call(env->top, &call.op);
}

static void list_entry_add(struct store_op *op, const struct store_entry *entry)
{
	struct env_list *list = container_of(op, struct env_list, call.op);
	size_t used = strlen(list->text);

	assert_in_range(used + entry->key_len + 2, 0, sizeof(list->text) - 1);
	snprintf(list->text + used, sizeof(list->text) - used, "%s%.*s",
		 used && list->text[used - 1] != '|' ? "," : "", (int)entry->key_len, entry->key);
}

static void list_restart(struct store_op *op)
{
	struct env_list *list = container_of(op, struct env_list, call.op);

	list->text[list->page_start] = '\0';
}

int env_list(struct env *env, struct env_list *list)
{
	int err;

	list->text[0] = '\0';
	list->page.truncated = false;
	do {
		bool first = !list->page.truncated;

		memcpy(list->token, list->page.token, sizeof(list->token));
		if (!first)
			strcat(list->text, "|");
		list->page_start = strlen(list->text);
		list->call.op = (struct store_op){
			.opcode = STORE_LIST,
			.key = list->prefix ? list->prefix : "",
			.list = { .delimiter = list->delimiter,
				  .start_after = first ? list->start_after : NULL,
				  .token = first ? NULL : list->token,
				  .limit = list->limit,
				  .entry = list_entry_add,
				  .restart = list_restart,
				  .page = &list->page },
		};
		err = store_call(env->top, &list->call.op);
	} while (!err && list->page.truncated);
	return err;
}

const char *env_list_text(struct env *env, struct env_list *list)
{
	assert_int_equal(env_list(env, list), 0);
	return list->text;
}
