/* SPDX-License-Identifier: Apache-2.0 */
#include "store/services/s3/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#define CONNECTIONS_DEFAULT 64
#define CONNECTIONS_MAX 4096
#define CONNECT_TIMEOUT_MS_DEFAULT 10000
#define CUSTOMER_KEY_LEN 32

/* All strings of a configuration. */
#define STRING(name) offsetof(struct s3_config, name)
static const size_t strings[] = {
	STRING(root),
	STRING(bucket),
	STRING(endpoint),
	STRING(region),
	STRING(default_region),
	STRING(profile),
	STRING(access_key_id),
	STRING(secret_access_key),
	STRING(session_token),
	STRING(role_arn),
	STRING(external_id),
	STRING(role_session_name),
	STRING(server_side_encryption),
	STRING(server_side_encryption_aws_kms_key_id),
	STRING(server_side_encryption_customer_algorithm),
	STRING(server_side_encryption_customer_key),
	STRING(server_side_encryption_customer_key_md5),
	STRING(default_storage_class),
	STRING(default_acl),
	STRING(checksum_algorithm),
	STRING(ca_bundle),
	STRING(client_certificate),
	STRING(client_key),
	STRING(proxy),
};

static const char **string_at(struct s3_config *config, size_t offset)
{
	return (const char **)(void *)((char *)config + offset);
}

struct err *s3_config_copy(struct s3_config *to, const struct s3_config *from)
{
	*to = *from;
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		*string_at(to, strings[i]) = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		struct s3_config *source = (struct s3_config *)(uintptr_t)from;
		const char *text = *string_at(source, strings[i]);

		if (!text || !*text)
			continue;
		*string_at(to, strings[i]) = strdup(text);
		if (!*string_at(to, strings[i]))
			return err_errno(ENOMEM, "configuration");
	}
	if (!to->connections_max)
		to->connections_max = CONNECTIONS_DEFAULT;
	if (!to->connect_timeout_ms)
		to->connect_timeout_ms = CONNECT_TIMEOUT_MS_DEFAULT;
	return NULL;
}

void s3_config_free(struct s3_config *config)
{
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		char *text = (char *)(uintptr_t)*string_at(config, strings[i]);

		if (text)
			OPENSSL_cleanse(text, strlen(text));
		free(text);
		*string_at(config, strings[i]) = NULL;
	}
}

const char *s3_config_endpoint(const struct s3_config *config)
{
	static const char *const names[] = { "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL" };

	if (config->endpoint || config->disable_config_load)
		return config->endpoint;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			return value;
	}
	return NULL;
}

static bool is_one_of(const char *text, const char *const *choices)
{
	for (; *choices; choices++) {
		if (strcmp(text, *choices) == 0)
			return true;
	}
	return false;
}

/* Headers carry them: no control characters. */
static struct err *check_text(const char *key, const char *text)
{
	for (; text && *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return err_new("%s: control characters", key);
	}
	return NULL;
}

static struct err *check_encryption(const struct s3_config *config,
				    const struct s3_endpoint *endpoint)
{
	static const char *const kinds[] = { "AES256", "aws:kms", "aws:kms:dsse", NULL };
	const char *sse = config->server_side_encryption;
	bool kms = sse && strncmp(sse, "aws:kms", 7) == 0;

	if (sse && !is_one_of(sse, kinds))
		return err_new("server_side_encryption \"%s\": expected AES256, aws:kms or "
			       "aws:kms:dsse",
			       sse);
	if (config->server_side_encryption_aws_kms_key_id && !kms)
		return err_new("server_side_encryption_aws_kms_key_id: needs "
			       "server_side_encryption = \"aws:kms\"");
	if (config->server_side_encryption_bucket_key_enabled && !kms)
		return err_new("server_side_encryption_bucket_key_enabled: needs "
			       "server_side_encryption = \"aws:kms\"");
	if (!config->server_side_encryption_customer_key) {
		if (config->server_side_encryption_customer_algorithm ||
		    config->server_side_encryption_customer_key_md5)
			return err_new("server_side_encryption_customer_key: missing, while its "
				       "algorithm or MD5 is given");
		return NULL;
	}
	if (sse)
		return err_new("server_side_encryption and "
			       "server_side_encryption_customer_key exclude each other");
	if (!endpoint->tls)
		return err_new("server_side_encryption_customer_key: the endpoint has to be "
			       "https, or the key would be sent in the clear");
	return NULL;
}

struct err *s3_config_check(const struct s3_config *config, const struct s3_endpoint *endpoint)
{
	struct err *e;

	if (config->enable_versioning)
		return err_new("enable_versioning: old versions of objects cannot be read; a "
			       "versioned bucket works without this key");
	if (config->enable_write_with_append)
		return err_new("enable_write_with_append: objects are always written whole");
	if (!config->access_key_id != !config->secret_access_key)
		return err_new("access_key_id and secret_access_key go together");
	if (config->session_token && !config->access_key_id)
		return err_new("session_token: needs access_key_id and secret_access_key");
	if (config->connections_max > CONNECTIONS_MAX)
		return err_new("connections_max %u: at most %u", config->connections_max,
			       CONNECTIONS_MAX);
	e = check_text("default_storage_class", config->default_storage_class);
	if (!e)
		e = check_text("default_acl", config->default_acl);
	if (!e)
		e = check_text("server_side_encryption_aws_kms_key_id",
			       config->server_side_encryption_aws_kms_key_id);
	return e ? e : check_encryption(config, endpoint);
}

struct err *s3_config_root(const char *text, char root[static STORE_KEY_MAX + 1])
{
	size_t len;

	root[0] = '\0';
	if (!text)
		return NULL;
	while (*text == '/')
		text++;
	len = strlen(text);
	while (len && text[len - 1] == '/')
		len--;
	if (len == 0)
		return NULL;
	/* Room for keys of 128 bytes at least. */
	if (len > STORE_KEY_MAX - 129)
		return err_new("root: longer than %d bytes", STORE_KEY_MAX - 129);
	memcpy(root, text, len);
	memcpy(root + len, "/", 2);
	return NULL;
}

struct err *s3_config_checksum(const struct s3_config *config, enum s3_checksum_kind *kind)
{
	*kind = S3_CHECKSUM_OFF;
	if (config->checksum_algorithm && !s3_checksum_parse(config->checksum_algorithm, kind))
		return err_new("checksum_algorithm \"%s\": expected off, crc32c, crc64nvme or md5",
			       config->checksum_algorithm);
	return NULL;
}

struct err *s3_config_customer_key(const struct s3_config *config,
				   char md5[static S3_CHECKSUM_TEXT])
{
	const char *algorithm = config->server_side_encryption_customer_algorithm;
	const char *given = config->server_side_encryption_customer_key_md5;
	unsigned char key[CUSTOMER_KEY_LEN];
	int err;

	md5[0] = '\0';
	if (!config->server_side_encryption_customer_key)
		return NULL;
	if (!algorithm || strcmp(algorithm, "AES256") != 0)
		return err_new("server_side_encryption_customer_algorithm: expected AES256");
	if (!s3_base64_decode(config->server_side_encryption_customer_key, key, sizeof(key)))
		return err_new("server_side_encryption_customer_key: expected %d bytes in base64",
			       CUSTOMER_KEY_LEN);
	err = s3_md5_text(key, sizeof(key), md5);
	OPENSSL_cleanse(key, sizeof(key));
	if (err)
		return err_new("server_side_encryption_customer_key_md5: the crypto library has "
			       "no MD5");
	if (given && strcmp(given, md5) != 0)
		return err_new("server_side_encryption_customer_key_md5: not that of "
			       "server_side_encryption_customer_key");
	return NULL;
}
