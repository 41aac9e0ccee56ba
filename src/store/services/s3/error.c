/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document's code comes first: a status stands for many codes. Codes are those of
 * the table "List of error codes" of the Amazon S3 API reference, and what MinIO and Ceph add.
 */
#include "store/services/s3/error.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

static const struct code {
	const char *code;
	int error;
	enum s3_remedy remedy;
} codes[] = {
	{ "AccessControlListNotSupported", EINVAL, S3_REMEDY_NONE },
	{ "AccessDenied", EACCES, S3_REMEDY_NONE },
	{ "AccountProblem", EACCES, S3_REMEDY_NONE },
	{ "AllAccessDisabled", EACCES, S3_REMEDY_NONE },
	{ "AuthorizationHeaderMalformed", EACCES, S3_REMEDY_REGION },
	{ "AuthorizationQueryParametersError", EACCES, S3_REMEDY_REGION },
	{ "BadDigest", EIO, S3_REMEDY_NONE },
	{ "BandwidthLimitExceeded", EAGAIN, S3_REMEDY_NONE },
	{ "BucketRegionError", EIO, S3_REMEDY_REGION },
	{ "Busy", EAGAIN, S3_REMEDY_NONE },
	{ "ConditionalRequestConflict", EAGAIN, S3_REMEDY_NONE },
	{ "ContentChecksumMismatch", EIO, S3_REMEDY_NONE },
	{ "EntityTooLarge", EFBIG, S3_REMEDY_NONE },
	{ "EntityTooSmall", EINVAL, S3_REMEDY_NONE },
	{ "ExpiredToken", EACCES, S3_REMEDY_CREDENTIALS },
	{ "ExpiredTokenException", EACCES, S3_REMEDY_CREDENTIALS },
	{ "IncompleteBody", EIO, S3_REMEDY_NONE },
	{ "InternalError", EIO, S3_REMEDY_NONE },
	{ "InvalidAccessKeyId", EACCES, S3_REMEDY_CREDENTIALS },
	{ "InvalidArgument", EINVAL, S3_REMEDY_NONE },
	{ "InvalidBucketName", EINVAL, S3_REMEDY_NONE },
	{ "InvalidDigest", EIO, S3_REMEDY_NONE },
	{ "InvalidObjectState", EACCES, S3_REMEDY_NONE }, /* archived */
	{ "InvalidPart", EINVAL, S3_REMEDY_NONE },
	{ "InvalidPartOrder", EINVAL, S3_REMEDY_NONE },
	{ "InvalidRange", ERANGE, S3_REMEDY_NONE },
	{ "InvalidRequest", EINVAL, S3_REMEDY_NONE },
	{ "InvalidToken", EACCES, S3_REMEDY_CREDENTIALS },
	{ "InvalidTokenId", EACCES, S3_REMEDY_CREDENTIALS },
	{ "KeyTooLongError", ENAMETOOLONG, S3_REMEDY_NONE },
	{ "KeyTooLong", ENAMETOOLONG, S3_REMEDY_NONE },
	{ "MalformedXML", EINVAL, S3_REMEDY_NONE },
	{ "MetadataTooLarge", EINVAL, S3_REMEDY_NONE },
	{ "MethodNotAllowed", EACCES, S3_REMEDY_NONE },
	{ "NoSuchBucket", EIO, S3_REMEDY_NONE }, /* not "no such file" */
	{ "NoSuchKey", ENOENT, S3_REMEDY_NONE },
	{ "NoSuchUpload", ENOENT, S3_REMEDY_NONE },
	{ "NoSuchVersion", ENOENT, S3_REMEDY_NONE },
	{ "NotImplemented", EOPNOTSUPP, S3_REMEDY_NONE },
	{ "NotSignedUp", EACCES, S3_REMEDY_NONE },
	{ "OperationAborted", EAGAIN, S3_REMEDY_NONE },
	{ "PermanentRedirect", EIO, S3_REMEDY_REGION },
	{ "PreconditionFailed", ESTALE, S3_REMEDY_NONE },
	{ "QuotaExceeded", EDQUOT, S3_REMEDY_NONE },
	{ "Redirect", EIO, S3_REMEDY_REGION },
	{ "RequestLimitExceeded", EAGAIN, S3_REMEDY_NONE },
	{ "RequestTimeTooSkewed", EACCES, S3_REMEDY_NONE },
	{ "RequestTimeout", ETIMEDOUT, S3_REMEDY_NONE },
	{ "ServiceUnavailable", EAGAIN, S3_REMEDY_NONE },
	{ "SignatureDoesNotMatch", EACCES, S3_REMEDY_NONE },
	{ "SlowDown", EAGAIN, S3_REMEDY_NONE },
	{ "SlowDownRead", EAGAIN, S3_REMEDY_NONE },
	{ "SlowDownWrite", EAGAIN, S3_REMEDY_NONE },
	{ "TemporaryRedirect", EAGAIN, S3_REMEDY_REGION },
	{ "Throttling", EAGAIN, S3_REMEDY_NONE },
	{ "ThrottlingException", EAGAIN, S3_REMEDY_NONE },
	{ "TokenRefreshRequired", EACCES, S3_REMEDY_CREDENTIALS },
	{ "TooManyRequests", EAGAIN, S3_REMEDY_NONE },
	{ "XAmzContentChecksumMismatch", EIO, S3_REMEDY_NONE },
	{ "XAmzContentSHA256Mismatch", EIO, S3_REMEDY_NONE },
	{ "XMinioAdminBucketQuotaExceeded", EDQUOT, S3_REMEDY_NONE },
	{ "XMinioObjectExistsAsDirectory", EINVAL, S3_REMEDY_NONE },
	{ "XMinioParentIsObject", EINVAL, S3_REMEDY_NONE },
	{ "XMinioServerNotInitialized", EAGAIN, S3_REMEDY_NONE },
	{ "XMinioStorageFull", ENOSPC, S3_REMEDY_NONE },
};

static const struct status {
	unsigned status;
	int error;
	enum s3_remedy remedy;
} statuses[] = {
	{ 301, EIO, S3_REMEDY_REGION },	       { 302, EIO, S3_REMEDY_REGION },
	{ 307, EAGAIN, S3_REMEDY_REGION },     { 308, EIO, S3_REMEDY_REGION },
	{ 400, EINVAL, S3_REMEDY_REGION },     { 401, EACCES, S3_REMEDY_CREDENTIALS },
	{ 403, EACCES, S3_REMEDY_NONE },       { 404, ENOENT, S3_REMEDY_NONE },
	{ 405, EACCES, S3_REMEDY_NONE },       { 408, ETIMEDOUT, S3_REMEDY_NONE },
	{ 409, EAGAIN, S3_REMEDY_NONE },       { 411, EINVAL, S3_REMEDY_NONE },
	{ 412, ESTALE, S3_REMEDY_NONE },       { 413, EFBIG, S3_REMEDY_NONE },
	{ 414, ENAMETOOLONG, S3_REMEDY_NONE }, { 416, ERANGE, S3_REMEDY_NONE },
	{ 429, EAGAIN, S3_REMEDY_NONE },       { 501, EOPNOTSUPP, S3_REMEDY_NONE },
	{ 503, EAGAIN, S3_REMEDY_NONE },       { 504, ETIMEDOUT, S3_REMEDY_NONE },
	{ 507, ENOSPC, S3_REMEDY_NONE },
};

static const struct code *code_find(const char *code)
{
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		if (strcmp(codes[i].code, code) == 0)
			return &codes[i];
	}
	return NULL;
}

static struct s3_verdict judge_status(unsigned status)
{
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		if (statuses[i].status == status)
			return (struct s3_verdict){ .result = -statuses[i].error,
						    .remedy = statuses[i].remedy };
	}
	return (struct s3_verdict){ .result = status / 100 == 4 ? -EINVAL : -EIO };
}

/* The same code, but other errnos for some operations. */
static int judge_for_op(int result, const struct s3_error *error, const struct store_op *op)
{
	switch (op->opcode) {
	case STORE_PUT:
	case STORE_COMMIT:
		/* If-Match, and nothing is there; not the session that is missing. */
		if (result == -ENOENT && store_given(op->if_match) &&
		    strcmp(error->code, "NoSuchUpload") != 0 &&
		    (op->opcode == STORE_PUT || strcmp(error->code, "NoSuchKey") == 0))
			return -ESTALE;
		if (result == -ESTALE && op->if_absent)
			return -EEXIST;
		return result == -ERANGE ? -EINVAL : result;
	case STORE_COPY:
		if (result == -EINVAL && strstr(error->message, "larger than"))
			return -EFBIG;
		/* Which of the two conditions it was is not said. */
		if (result == -ESTALE && op->if_absent && !store_given(op->source_if_match))
			return -EEXIST;
		return result;
	case STORE_COPY_PART:
		return result == -ERANGE ? -EINVAL : result;
	case STORE_LIST:
	case STORE_LIST_SESSIONS:
	case STORE_BEGIN:
		return result == -ENOENT ? -EIO : result; /* whatever it is that is missing */
	default:
		return result;
	}
}

struct s3_verdict s3_error_judge(const struct s3_error *error, unsigned status,
				 const struct store_op *op)
{
	const struct code *known = error->code[0] ? code_find(error->code) : NULL;
	struct s3_verdict verdict;

	if (known)
		verdict = (struct s3_verdict){ .result = -known->error, .remedy = known->remedy };
	else
		verdict = judge_status(status);
	/* A HEAD has no body to say more in. What is refused so are expired tokens and objects
	 * under a customer's key; the request itself makes sense. */
	if (status == 400 && op->opcode == STORE_STAT && !error->code[0])
		verdict.result = -EACCES;
	verdict.result = judge_for_op(verdict.result, error, op);
	verdict.starting = strcmp(error->code, "XMinioServerNotInitialized") == 0;
	switch (verdict.result) {
	case -ENOENT:
	case -ESTALE:
	case -EEXIST:
	case -ERANGE:
		verdict.expected = true;
	}
	return verdict;
}

int s3_error_of_key(const char *code)
{
	const struct code *known = code_find(code);
	int result = known ? -known->error : -EIO;

	return result == -ENOENT ? 0 : result; /* gone is what was wanted */
}
