/* SPDX-License-Identifier: ISC */
/* The environment of a box's command: see env.h. Nothing of the caller's comes in by itself. */
#include "box/env.h"

#include <string.h>

#include "base/str.h"
#include "base/util.h"

static size_t name_len(const char *entry)
{
	return strcspn(entry, "=");
}

static bool is_overridden(const struct hk_box_config *config, const char *entry, unsigned from)
{
	size_t len = name_len(entry);

	for (unsigned i = from; i < config->env_count; i++) {
		if (name_len(config->env[i]) == len && memcmp(config->env[i], entry, len) == 0) {
			return true;
		}
	}
	return false;
}

static void add(struct hk_control_builder *env, const struct hk_box_config *config,
	const char *name, const char *value)
{
	struct hk_str entry = {0};

	hk_str_addf(&entry, "%s=%s", name, value);
	if (entry.failed) {
		env->error = env->error < 0 ? env->error : -ENOMEM;
	} else if (!is_overridden(config, entry.data, 0)) {
		hk_control_add_string(env, entry.data); /* errors stick to the builder */
	}
	hk_str_finish(&entry);
}

void hk_env_make(struct hk_control_builder *env, const struct hk_box_config *config,
	const struct hk_box_user *user, const char *workdir)
{
	char runtime_dir[32];

	hk_fmt(runtime_dir, sizeof(runtime_dir), "/run/user/%u", user->uid);
	add(env, config, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	add(env, config, "HOME", user->home);
	add(env, config, "USER", user->name);
	add(env, config, "LOGNAME", user->name);
	add(env, config, "SHELL", "/bin/sh");
	add(env, config, "PWD", workdir);
	add(env, config, "XDG_RUNTIME_DIR", runtime_dir);
	if (config->tty) {
		add(env, config, "TERM", "xterm");
	}
	for (unsigned i = 0; i < config->env_count; i++) {
		if (!is_overridden(config, config->env[i], i + 1)) {
			hk_control_add_string(env, config->env[i]);
		}
	}
}
