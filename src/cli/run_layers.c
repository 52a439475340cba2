/* SPDX-License-Identifier: ISC */
/* Layers of a box: see run_layers.h. */
#include "cli/run_layers.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/layers.h"
#include "cli/opts.h"
#include "cli/report.h"

int hk_run_layers_add(struct hk_run_layers *layers, const struct hk_share *share,
	const char **ret_path, struct hk_err *err)
{
	int r = 0;

	if (layers->keep != NULL && layers->count > 0) {
		hk_fail_msg(err, EINVAL,
			"--keep %s: changes of one share can be kept, and %s is another",
			layers->keep, share->host);
		hk_err_hint(err, "make this one :ro or :rw, or leave out --keep");
		return -EINVAL;
	}
	if (layers->dir == NULL) {
		r = hk_layers_dir(&layers->dir, err);
	}
	if (r == 0) {
		r = hk_layers_make(layers->dir, layers->keep, &layers->paths[layers->count], err);
	}
	if (r == 0) {
		*ret_path = layers->paths[layers->count++];
	}
	return r;
}

int hk_run_layers_make(struct hk_run_layers *layers, struct hk_share *shares, const bool *is_cow,
	unsigned share_count, bool is_used_later, struct hk_err *err)
{
	unsigned cow_count = 0;
	int r = 0;

	for (unsigned i = 0; i < share_count; i++) {
		struct stat st;

		cow_count += is_cow[i];
		if (is_cow[i] && stat(shares[i].host, &st) == 0 && !S_ISDIR(st.st_mode)) {
			return hk_opts_bad_value("-v", shares[i].host,
				"only a directory can be :cow; share the one that the file is in",
				err);
		}
	}
	if (layers->keep != NULL && cow_count > 1) {
		return hk_opts_bad_value("--keep", layers->keep,
			"it names one layer, and several shares are :cow; make the others :ro or "
			":rw",
			err);
	}
	if (layers->keep != NULL && cow_count == 0 && !is_used_later) {
		return hk_opts_bad_value(
			"--keep", layers->keep, "give the share that it is for: -v DIR:cow", err);
	}
	for (unsigned i = 0; r == 0 && i < share_count; i++) {
		if (is_cow[i]) {
			r = hk_run_layers_add(layers, &shares[i], &shares[i].layer, err);
		}
	}
	return r;
}

void hk_run_layers_undo(const struct hk_run_layers *layers)
{
	for (unsigned i = 0; i < layers->count; i++) {
		struct hk_err err = HK_ERR_INIT;

		if (layers->keep != NULL) {
			(void)rmdir(layers->paths[i]); /* an earlier run's has something in it */
		} else if (hk_layers_remove(layers->paths[i], &err) < 0) {
			hk_report_err("run", &err, 0);
		}
	}
}

void hk_run_layers_finish(struct hk_run_layers *layers)
{
	for (unsigned i = 0; i < layers->count; i++) {
		free(layers->paths[i]);
	}
	free(layers->dir);
	*layers = (struct hk_run_layers){0};
}
