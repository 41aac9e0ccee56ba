/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that the service does not take: are there others by now? */
#include <stdio.h>
#include <string.h>

#include "store/services/s3/internal.h"

/* Between two looks for other keys on mere suspicion; where that asks a service, seldom. */
#define SUSPECT_FILE_NS 1000000000ull
#define SUSPECT_SERVICE_NS 30000000000ull

/*
 * HEAD has no document to say in what is wrong: that the keys are not taken any more, or only that
 * they may not do this. There may be others by now. A look at them now and then does no harm.
 */
bool s3_suspected_keys(struct s3_request *request, const struct s3_error *error)
{
	const struct s3_credentials *used = request->credentials;
	struct s3 *s3 = request->s3;
	uint64_t now = loop_now_ns(), pause = SUSPECT_FILE_NS;

	if (error->code[0] || request->credentials_tried || used->anonymous)
		return false;
	if (request->transfer.status != 403 &&
	    (request->transfer.status != 400 || !used->session_token))
		return false;
	if (used->expires_ns)
		pause = SUSPECT_SERVICE_NS;
	if (!s3_provider_has_others(s3->provider, used)) {
		/* Keys that the last look has found may be old by now, too. */
		if (s3->suspected_ns && now - s3->suspected_ns < pause &&
		    strncmp(s3->suspected_id, used->access_key_id, sizeof(s3->suspected_id) - 1) ==
			    0)
			return false;
		s3->suspected_ns = now;
		snprintf(s3->suspected_id, sizeof(s3->suspected_id), "%s", used->access_key_id);
	}
	s3_note_failure(request, error);
	request->credentials_tried = true;
	s3_request_renew(request, true);
	return true;
}

bool s3_refused_keys(struct s3_request *request, const struct s3_error *error)
{
	struct s3 *s3 = request->s3;

	if (request->credentials_tried || request->credentials->anonymous)
		return false;
	if (s3->watched != request->op)
		log_limited(&s3->log_limit, LOG_LEVEL_WARN, "s3_credentials_refused",
			    "bucket=%s source=%s status=%u code=\"%s\"", s3->endpoint.bucket,
			    request->credentials->source, request->transfer.status, error->code);
	/* Should there be no others, then this is why. */
	s3_note_failure(request, error);
	request->credentials_tried = true;
	s3_request_renew(request, false);
	return true;
}
