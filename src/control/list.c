/* SPDX-License-Identifier: ISC */
/*
 * Lists: strings, and the steps of a set-up.
 *
 * Theory: a list is a count and its elements' bytes, one after the other. Builders append in wire
 * form; walkers read an element off the front and move on. Which fields a step carries is one row
 * of the table below, read by the writer and by the reader. A writer checks by reading back what
 * it wrote, hence whatever is sent is accepted.
 */
#include "control/wire.h"

#include <errno.h>
#include <string.h>

void hk_control_builder_finish(struct hk_control_builder *builder)
{
	hk_control_buf_finish(&builder->buf);
	*builder = (struct hk_control_builder){0};
}

struct hk_control_list hk_control_built(const struct hk_control_builder *builder)
{
	return (struct hk_control_list){
		.data = builder->buf.data,
		.len_bytes = (uint32_t)builder->buf.len,
		.count = builder->count,
		.error = builder->error,
	};
}

/* What an add function wrote from @mark on is one more element, or nothing. */
static int added(struct hk_control_builder *builder, size_t mark, int error)
{
	if (!error && builder->count == HK_CONTROL_MAX_COUNT) {
		error = -E2BIG;
	}
	if (error) {
		builder->buf.len = mark;
		builder->error = error;
	} else {
		builder->count++;
	}
	return error;
}

int hk_control_add_string(struct hk_control_builder *builder, const char *s)
{
	struct hk_wire_out out = {.buf = &builder->buf, .error = builder->error};
	size_t mark = builder->buf.len;

	if (!out.error && strlen(s) > HK_CONTROL_MAX_STRING) {
		out.error = -E2BIG;
	}
	hk_wire_put_string(&out, s);
	return added(builder, mark, out.error);
}

/* Move @list behind the element that @in has read. */
static bool advance(struct hk_control_list *list, const struct hk_wire_in *in)
{
	if (list->count == 0 || in->bad) {
		return false;
	}
	list->count--;
	list->data = in->p;
	list->len_bytes = (uint32_t)in->left;
	return true;
}

bool hk_control_next_string(struct hk_control_list *list, const char **ret_string)
{
	struct hk_wire_in in = {.p = list->data, .left = list->len_bytes};
	const char *s = hk_wire_get_string(&in, HK_CONTROL_MAX_STRING);

	if (!advance(list, &in)) {
		return false;
	}
	*ret_string = s;
	return true;
}

void hk_wire_check_strings(struct hk_wire_in *in, struct hk_control_list list)
{
	const char *s;

	while (hk_control_next_string(&list, &s)) {
	}
	hk_wire_require(in, list.count == 0 && list.len_bytes == 0);
}

/* Fields of a step, in their order on the wire; every step has type and path before them. */
enum {
	FLAGS = 1 << 0,
	MODE = 1 << 1, /* with uid and gid */
	SIZE = 1 << 2,
	EXPORT = 1 << 3, /* source: one component of a path */
	LINK = 1 << 4,   /* source: what a symbolic link holds */
	CONTENT = 1 << 5,
	UPPER = 1 << 6,
	IN_UPPER = 1 << 7,   /* no field: may stand in an overlay's list */
	UPPER_ONLY = 1 << 8, /* no field: may stand nowhere else */
};

static const unsigned step_shapes[HK_STEP_TYPE_COUNT] = {
	[HK_STEP_FS] = FLAGS | EXPORT,
	[HK_STEP_TMPFS] = MODE | SIZE,
	[HK_STEP_DIR] = MODE | IN_UPPER,
	[HK_STEP_SYMLINK] = LINK | IN_UPPER,
	[HK_STEP_FILE] = MODE | CONTENT | IN_UPPER,
	[HK_STEP_OVERLAY] = FLAGS | SIZE | EXPORT | UPPER,
	[HK_STEP_HIDE] = IN_UPPER | UPPER_ONLY,
};

static bool is_export_name(const char *name)
{
	return name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static void put_step(struct hk_wire_out *out, const struct hk_step *step)
{
	unsigned shape = step_shapes[step->type];

	hk_wire_put_u32(out, step->type);
	hk_wire_put_string(out, step->path);
	if (shape & FLAGS) {
		hk_wire_put_u32(out, step->flags);
	}
	if (shape & MODE) {
		hk_wire_put_u32(out, step->mode);
		hk_wire_put_u32(out, step->uid);
		hk_wire_put_u32(out, step->gid);
	}
	if (shape & SIZE) {
		hk_wire_put_u64(out, step->size_bytes);
	}
	if (shape & (EXPORT | LINK)) {
		hk_wire_put_string(out, step->source);
	}
	if (shape & CONTENT) {
		hk_wire_put_blob(out, step->content, step->content_len);
	}
	if (shape & UPPER) {
		hk_wire_put_list(out, &step->upper);
	}
}

/* Does not look into @step's list. */
static void get_step(struct hk_wire_in *in, struct hk_step *step)
{
	uint32_t type = hk_wire_get_u32(in);
	unsigned shape;

	*step = (struct hk_step){.path = "", .source = ""};
	if (type == 0 || type >= HK_STEP_TYPE_COUNT) {
		in->bad = true;
		return;
	}
	shape = step_shapes[type];
	step->type = (enum hk_step_type)type;
	step->path = hk_wire_get_string(in, HK_CONTROL_MAX_PATH);
	hk_wire_require(in, step->path[0] == '/');
	if (shape & FLAGS) {
		step->flags = hk_wire_get_u32(in);
		hk_wire_require(in, (step->flags & ~(uint32_t)HK_STEP_RO) == 0);
	}
	if (shape & MODE) {
		step->mode = hk_wire_get_u32(in);
		step->uid = hk_wire_get_u32(in);
		step->gid = hk_wire_get_u32(in);
		hk_wire_require(in, step->mode <= 07777);
		hk_wire_require(in, step->uid != UINT32_MAX && step->gid != UINT32_MAX);
	}
	if (shape & SIZE) {
		step->size_bytes = hk_wire_get_u64(in);
	}
	if (shape & EXPORT) {
		step->source = hk_wire_get_string(in, HK_CONTROL_MAX_NAME);
		hk_wire_require(in, is_export_name(step->source));
	}
	if (shape & LINK) {
		step->source = hk_wire_get_string(in, HK_CONTROL_MAX_PATH);
		hk_wire_require(in, step->source[0] != 0);
	}
	if (shape & CONTENT) {
		step->content = hk_wire_get_blob(in, &step->content_len);
	}
	if (shape & UPPER) {
		step->upper = hk_wire_get_list(in);
	}
}

bool hk_control_next_step(struct hk_control_list *list, struct hk_step *ret_step)
{
	struct hk_wire_in in = {.p = list->data, .left = list->len_bytes};
	struct hk_step step;

	get_step(&in, &step);
	if (!advance(list, &in)) {
		return false;
	}
	*ret_step = step;
	return true;
}

static void check_upper(struct hk_wire_in *in, struct hk_control_list list)
{
	struct hk_step step;

	while (hk_control_next_step(&list, &step)) {
		hk_wire_require(in, step_shapes[step.type] & IN_UPPER);
	}
	hk_wire_require(in, list.count == 0 && list.len_bytes == 0);
}

void hk_wire_check_steps(struct hk_wire_in *in, struct hk_control_list list)
{
	bool first = true;
	struct hk_step step;

	while (hk_control_next_step(&list, &step)) {
		hk_wire_require(in, !(step_shapes[step.type] & UPPER_ONLY));
		if (step.type == HK_STEP_OVERLAY) {
			hk_wire_require(in, first || strcmp(step.path, "/") != 0);
			check_upper(in, step.upper);
		}
		first = false;
	}
	hk_wire_require(in, list.count == 0 && list.len_bytes == 0);
}

/* Fields that the type does not carry would be lost in silence. */
static bool only_used_fields(const struct hk_step *step, unsigned shape)
{
	return ((shape & FLAGS) || !step->flags) &&
		((shape & MODE) || !(step->mode | step->uid | step->gid)) &&
		((shape & SIZE) || !step->size_bytes) &&
		((shape & (EXPORT | LINK)) || !step->source) &&
		((shape & CONTENT) || !step->content_len) &&
		((shape & UPPER) || !step->upper.count);
}

int hk_control_add_step(struct hk_control_builder *builder, const struct hk_step *step)
{
	struct hk_wire_out out = {.buf = &builder->buf, .error = builder->error};
	size_t mark = builder->buf.len;

	if (!out.error &&
		((unsigned)step->type == 0 || step->type >= HK_STEP_TYPE_COUNT ||
			!only_used_fields(step, step_shapes[step->type]))) {
		out.error = -EINVAL;
	}
	if (!out.error) {
		put_step(&out, step);
	}
	if (!out.error) {
		struct hk_wire_in in = {
			.p = builder->buf.data + mark, .left = builder->buf.len - mark};
		struct hk_step back;

		get_step(&in, &back);
		if (back.type == HK_STEP_OVERLAY) {
			check_upper(&in, back.upper);
		}
		out.error = in.bad ? -EINVAL : 0;
	}
	return added(builder, mark, out.error);
}
