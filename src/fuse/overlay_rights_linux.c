/* SPDX-License-Identifier: ISC */
/*
 * Rights that an owner lends himself: see overlay_impl.h.
 *
 * Theory: who is not root needs the right to write for what root does without: names in a
 * directory, its way to another one, attributes. What he owns he may open for a moment; then it
 * gets its mode back.
 *
 * Limits: what another owns stays closed, and what is on a file system without modes. So does a
 * set-group-id directory of a group he is not in: any change of its mode would take that bit away.
 * Whoever is killed in between leaves the mode with the rights lent.
 */
#include <grp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fuse/overlay_impl.h"

int hk_ov_find_groups(struct hk_overlay *ov)
{
	int count = getgroups(0, NULL);

	ov->uid = geteuid();
	ov->gid = getegid();
	ov->groups = count > 0 ? hk_calloc((size_t)count, sizeof(gid_t)) : NULL;
	if (count > 0 && ov->groups == NULL) {
		return -ENOMEM;
	}
	count = count > 0 ? getgroups(count, ov->groups) : 0;
	ov->group_count = count > 0 ? (size_t)count : 0;
	return 0;
}

bool hk_ov_is_in_group(const struct hk_overlay *ov, gid_t gid)
{
	for (size_t i = 0; i < ov->group_count; i++) {
		if (ov->groups[i] == gid) {
			return true;
		}
	}
	return gid == ov->gid;
}

int hk_ov_lend(struct hk_overlay *ov, int obj, mode_t rights, struct hk_ov_lent *lent)
{
	int r;

	*lent = (struct hk_ov_lent){.obj = -1};
	if (obj < 0) {
		return 0;
	}
	r = ov->host->ops->stat(ov->host, obj, &lent->st);
	if (r < 0) {
		return r;
	}
	lent->obj = obj;
	if (ov->is_root || (lent->st.mode & rights) == rights ||
		(!S_ISDIR(lent->st.mode) && !S_ISREG(lent->st.mode)) ||
		((lent->st.mode & S_ISGID) != 0 && !hk_ov_is_in_group(ov, lent->st.gid))) {
		return 0;
	}
	lent->is_lent = hk_host_chmod(ov->host, obj, (lent->st.mode & 07777) | rights) == 0;
	return 0;
}

int hk_ov_take_back(struct hk_overlay *ov, const struct hk_ov_lent *lent)
{
	return lent->is_lent ? hk_host_chmod(ov->host, lent->obj, lent->st.mode & 07777) : 0;
}

void hk_ov_leave_as_was(struct hk_overlay *ov, const struct hk_ov_lent *lent)
{
	struct timespec times[2] = {lent->st.atime, lent->st.mtime};

	hk_ov_take_back(ov, lent);
	if (lent->obj >= 0) {
		hk_host_utimes(ov->host, lent->obj, times);
	}
}
