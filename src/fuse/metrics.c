/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/metrics.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/loop.h"
#include "base/util.h"
#include "fuse/internal.h"

#define NSEC_PER_MSEC 1000000u

struct fuse_cell {
	_Alignas(COUNTER_LINE) counter results[FUSE_RESULTS];
	counter bytes, latency_ns;
	counter buckets[HISTOGRAM_BUCKETS];
};

/* Opcode 0 is nobody's: those that we do not know. */
struct fuse_metrics {
	struct fuse_cell slot[COUNTER_SLOTS][FUSE_OPCODE_COUNT];
};

static const char *const result_names[] = {
	[FUSE_RESULT_OK] = "ok",
	[FUSE_RESULT_ABSENT] = "absent",
	[FUSE_RESULT_REFUSED] = "refused",
	[FUSE_RESULT_DENIED] = "denied",
	[FUSE_RESULT_UNSUPPORTED] = "unsupported",
	[FUSE_RESULT_INTERRUPTED] = "interrupted",
	[FUSE_RESULT_FULL] = "full",
	[FUSE_RESULT_STALE] = "stale",
	[FUSE_RESULT_ERROR] = "error",
};
_Static_assert(ARRAY_SIZE(result_names) == FUSE_RESULTS, "one name for each result");

const char *fuse_result_name(enum fuse_result result)
{
	return result_names[result];
}

static enum fuse_result result_of(ssize_t result)
{
	switch (-result) {
	case ENOENT:
	case ENODATA:
		return FUSE_RESULT_ABSENT;
	case EEXIST:
	case ENOTEMPTY:
	case EINVAL:
	case EISDIR:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ERANGE:
	case EXDEV:
	case EBADF:
	case ENXIO:
	case ELOOP:
	case EMLINK:
	case ETXTBSY:
	case EBUSY:
		return FUSE_RESULT_REFUSED;
	case EACCES:
	case EPERM:
	case EROFS:
		return FUSE_RESULT_DENIED;
	case ENOSYS:
	case EOPNOTSUPP:
	case ENOTTY:
		return FUSE_RESULT_UNSUPPORTED;
	case EINTR:
	case EAGAIN:
		return FUSE_RESULT_INTERRUPTED;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return FUSE_RESULT_FULL;
	case ESTALE:
		return FUSE_RESULT_STALE;
	default:
		return FUSE_RESULT_ERROR;
	}
}

struct fuse_metrics *fuse_metrics_new(void)
{
	/* A megabyte, of which only what is used gets pages. */
	void *metrics = mmap(NULL, sizeof(struct fuse_metrics), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return metrics == MAP_FAILED ? NULL : metrics;
}

void fuse_metrics_free(struct fuse_metrics *metrics)
{
	if (metrics)
		munmap(metrics, sizeof(*metrics));
}

void fuse_metrics_add(struct fuse_metrics *metrics, uint32_t opcode, ssize_t result,
		      uint64_t latency_ns)
{
	unsigned slot = counter_slot();
	struct fuse_cell *cell = &metrics->slot[slot][opcode];

	counter_add(&cell->results[likely(result >= 0) ? FUSE_RESULT_OK : result_of(result)], 1,
		    slot);
	counter_add(&cell->latency_ns, latency_ns, slot);
	counter_add(&cell->buckets[histogram_bucket(latency_ns)], 1, slot);
	if (result > 0 && (opcode == FUSE_READ || opcode == FUSE_WRITE))
		counter_add(&cell->bytes, (uint64_t)result, slot);
}

bool fuse_metrics_read(const struct fuse_metrics *metrics, uint32_t opcode,
		       struct fuse_opcode_metrics *out)
{
	uint64_t count = 0;

	memset(out, 0, sizeof(*out));
	for (unsigned slot = 0; slot < COUNTER_SLOTS; slot++) {
		const struct fuse_cell *cell = &metrics->slot[slot][opcode];

		for (unsigned i = 0; i < FUSE_RESULTS; i++) {
			uint64_t n = counter_get(&cell->results[i]);

			out->results[i] += n;
			count += n;
		}
		out->bytes += counter_get(&cell->bytes);
		out->latency_ns += counter_get(&cell->latency_ns);
		for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
			out->buckets[i] += counter_get(&cell->buckets[i]);
	}
	return count > 0;
}

bool fuse_request_look(const void *storage, uint64_t begun_ns, struct fuse_request_info *out)
{
	const struct fuse_req *r = storage;
	const struct fuse_label *label = &r->label;

	if (atomic_load_explicit(&label->begun_ns, memory_order_acquire) != begun_ns)
		return false;
	out->opcode = atomic_load_explicit(&label->opcode, memory_order_relaxed);
	out->unique = atomic_load_explicit(&label->unique, memory_order_relaxed);
	out->nodeid = atomic_load_explicit(&label->nodeid, memory_order_relaxed);
	out->waits = out->opcode == FUSE_SETLKW;
	span_look(&r->req.span, &out->times);
	return true;
}

bool fuse_request_report(void *storage)
{
	struct fuse_req *r = storage;

	return !atomic_exchange_explicit(&r->label.reported, true, memory_order_relaxed);
}

void fuse_log_slow(struct fuse_req *r, ssize_t result, uint64_t latency_ns)
{
	struct span_times t;

	span_look(&r->req.span, &t);
	log_limited(fuse_session_log_limit(r->session), LOG_LEVEL_WARN, "slow_request",
		    "op=%s unique=%llu nodeid=%llu name=\"%s\" result=%zd ms=%llu driver_ms=%llu "
		    "queued_ms=%llu storage_ms=%llu",
		    r->op->name ? r->op->name : "unknown", (unsigned long long)r->req.unique,
		    (unsigned long long)r->req.nodeid, r->req.name ? r->req.name : "", result,
		    (unsigned long long)(latency_ns / NSEC_PER_MSEC),
		    (unsigned long long)(t.spent_ns[SPAN_DRIVER] / NSEC_PER_MSEC),
		    (unsigned long long)(t.spent_ns[SPAN_QUEUED] / NSEC_PER_MSEC),
		    (unsigned long long)(t.spent_ns[SPAN_STORAGE] / NSEC_PER_MSEC));
}
