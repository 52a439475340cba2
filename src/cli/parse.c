/* SPDX-License-Identifier: ISC */
/* Option values: see parse.h. */
#include "cli/parse.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"

/** struct mode - how something is shared, as @word at its end says */
struct mode {
	const char *word;
	bool ro, rw, cow, dax;
};

/*
 * Takes a mode off the end of @text, which loses it. Return: one that says nothing where there is
 * none.
 */
static const struct mode *take_mode(char *text)
{
	static const struct mode none = {.word = ""};
	static const struct mode modes[] = {
		{":ro", .ro = true},
		{":rw", .rw = true},
		{":cow", .cow = true},
		{":dax", .ro = true, .dax = true},
		{":ro,dax", .ro = true, .dax = true},
		{":rw,dax", .rw = true, .dax = true},
		{":cow,dax", .cow = true, .dax = true},
	};
	size_t len = strlen(text);

	for (size_t i = 0; i < HK_ARRAY_SIZE(modes); i++) {
		size_t word_len = strlen(modes[i].word);

		if (len > word_len && strcmp(text + len - word_len, modes[i].word) == 0) {
			text[len - word_len] = '\0';
			return &modes[i];
		}
	}
	return &none;
}

static int refuse_share(const char *text, const char *why, struct hk_err *err)
{
	hk_fail_msg(err, EINVAL, "-v %s: %s", text, why);
	hk_err_hint(
		err, "give it as -v HOST[:GUEST][:MODE], MODE being ro, rw, cow, dax or rw,dax");
	return -EINVAL;
}

int hk_share_spec_parse(const char *text, struct hk_share_spec *ret_spec, struct hk_err *err)
{
	autofree char *host = hk_strdup(text);
	autofree char *guest = NULL;
	const struct mode *mode;
	char *colon;

	if (host == NULL) {
		return hk_fail(err, ENOMEM, "-v");
	}
	mode = take_mode(host);
	colon = strchr(host, ':');
	if (colon != NULL) {
		*colon = '\0';
		if (strchr(colon + 1, ':') != NULL) {
			return refuse_share(text,
				"too many parts, or a mode that is none of ro, rw and cow", err);
		}
		if (colon[1] == '\0') {
			return refuse_share(text, "the path in the box is empty", err);
		}
		guest = hk_strdup(colon + 1);
		if (guest == NULL) {
			return hk_fail(err, ENOMEM, "-v");
		}
	}
	if (host[0] == '\0') {
		return refuse_share(text, "the path on the host is empty", err);
	}
	if (mode->cow && mode->dax) {
		return refuse_share(
			text, "what is copied when it is written to cannot be shared memory", err);
	}
	ret_spec->host = take_ptr(host);
	ret_spec->guest = take_ptr(guest);
	ret_spec->writable = mode->rw;
	ret_spec->cow = mode->cow;
	ret_spec->dax = mode->dax;
	return 0;
}

void hk_share_spec_finish(struct hk_share_spec *spec)
{
	free(spec->host);
	free(spec->guest);
	*spec = (struct hk_share_spec){0};
}

int hk_disk_spec_parse(const char *text, char **ret_path, bool *ret_read_only, struct hk_err *err)
{
	autofree char *path = hk_strdup(text);
	const struct mode *mode;

	if (path == NULL) {
		return hk_fail(err, ENOMEM, "--disk");
	}
	mode = take_mode(path);
	if (mode->cow || mode->dax || path[0] == '\0' || path[0] == ':') {
		hk_fail_msg(err, EINVAL, "--disk %s", text);
		hk_err_hint(err, "give it as --disk FILE[:ro]");
		return -EINVAL;
	}
	*ret_read_only = mode->ro;
	*ret_path = take_ptr(path);
	return 0;
}

int hk_duration_parse(const char *text, uint64_t *ret_ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {
		{"", HK_NS_PER_SEC},
		{"s", HK_NS_PER_SEC},
		{"ms", HK_NS_PER_MS},
		{"m", 60 * HK_NS_PER_SEC},
		{"h", 3600 * HK_NS_PER_SEC},
	};
	char digits[16];
	size_t len = strspn(text, "0123456789");
	uint64_t value;

	if (len >= sizeof(digits)) {
		return -EINVAL;
	}
	memcpy(digits, text, len);
	digits[len] = '\0';
	/* At most a million hours: no overflow. */
	if (hk_parse_uint(digits, 1, 1000000, &value) < 0) {
		return -EINVAL;
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(units); i++) {
		if (strcmp(text + len, units[i].unit) == 0) {
			*ret_ns = value * units[i].ns;
			return 0;
		}
	}
	return -EINVAL;
}

static void add_parts(struct hk_str *out, const char *path)
{
	while (*path != '\0') {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len > 0 && !(len == 1 && path[0] == '.')) {
			hk_str_add(out, "/");
			hk_str_add_bytes(out, path, len);
		}
		path += len;
	}
}

int hk_path_absolute(const char *dir, const char *path, char **ret_path)
{
	struct hk_str out = {0};
	int r;

	if (path[0] != '/') {
		add_parts(&out, dir);
	}
	add_parts(&out, path);
	if (out.len == 0) {
		hk_str_add(&out, "/");
	}
	r = hk_str_take(&out, ret_path);
	hk_str_finish(&out);
	return r;
}

bool hk_path_has_dotdot(const char *path)
{
	while (*path != '\0') {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 2 && path[0] == '.' && path[1] == '.') {
			return true;
		}
		path += len;
	}
	return false;
}
