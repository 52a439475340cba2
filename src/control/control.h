/* SPDX-License-Identifier: ISC */
/*
 * The control protocol between the monitor (host) and hako-guest (agent): its numbers, its
 * messages as structs, and the two ways between structs and bytes. hako-control(7) is the
 * specification.
 *
 * The core does no I/O and includes standard C only: the same files serve the monitor (glibc) and
 * the agent (musl, static).
 *
 * Sending:	struct hk_control_msg msg = {.type = HK_MSG_SIGNAL, .signal = {.id = 1, ...}};
 *		hk_control_put(&out, &msg);		appends to a growing buffer
 *		... write out.data, hk_control_buf_consume(&out, sent) ...
 *
 * Receiving:	hk_control_decoder_init(&dec, HK_CONTROL_FROM_GUEST);
 *		while ((r = hk_control_feed(&dec, &bytes, &len, &msg)) == 1) {
 *			... msg, valid until the next call ...
 *		}
 *		0: all bytes taken, none left over; < 0: the peer broke the protocol, hang up
 *
 * Lists (argv, env, the steps of a set-up) are kept as the bytes they have on the wire, so nothing
 * here allocates per element: a struct hk_control_builder makes one, hk_control_next_string() and
 * hk_control_next_step() walk it.
 *
 * Adding a message: its number at the end of enum hk_msg_type, its struct, one row in the table of
 * control.c with its put and get functions, a row in the test's table, a section in the page.
 */
#ifndef HK_CONTROL_CONTROL_H
#define HK_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HK_CONTROL_VERSION = 1,
	HK_CONTROL_PORT = 1024, /* the agent connects here, at CID 2, once */
	HK_STREAM_PORT = 1025,  /* and here once for each stream of a command */
};

enum {
	HK_CONTROL_HEADER_BYTES = 8,
	/* Bytes of a whole message, header included. */
	HK_CONTROL_MAX_FROM_HOST = 1 << 20,
	HK_CONTROL_MAX_FROM_GUEST = 1 << 16, /* the most the monitor ever keeps for a guest */
	/* Bytes of strings, without the NUL. */
	HK_CONTROL_MAX_STRING = 131071, /* of argv and env: Linux's own limit */
	HK_CONTROL_MAX_PATH = 4095,
	HK_CONTROL_MAX_NAME = 255,    /* of exports */
	HK_CONTROL_MAX_HOSTNAME = 64, /* Linux's own limit */
	HK_CONTROL_MAX_TEXT = 1023,   /* what the guest says */

	HK_CONTROL_MAX_COUNT = 65536, /* elements of a list */
	HK_CONTROL_ENTROPY_BYTES = 64,
};

/* Which way a message goes; a message that comes the other way breaks the protocol. */
enum hk_control_dir {
	HK_CONTROL_FROM_GUEST,
	HK_CONTROL_FROM_HOST,
	HK_CONTROL_DIR_COUNT,
};

/* Numbers on the wire; never reused. */
enum hk_msg_type {
	/* From the guest. */
	HK_MSG_HELLO = 1,       /* the agent is ready; the first message of the channel */
	HK_MSG_DONE = 2,        /* a request was carried out */
	HK_MSG_FAILED = 3,      /* a request was not; says which step on which object */
	HK_MSG_STARTED = 4,     /* a command runs */
	HK_MSG_EXEC_FAILED = 5, /* a command does not; nothing of it is left */
	HK_MSG_EXITED = 6,      /* a command that ran ended */
	HK_MSG_PONG = 7,
	/* From the host. */
	HK_MSG_SETUP = 32, /* a request, once: build the box */
	HK_MSG_EXEC = 33,
	HK_MSG_SIGNAL = 34,
	HK_MSG_WINSIZE = 35,
	HK_MSG_SHUTDOWN = 36, /* end everything, sync, power off; no body */
	HK_MSG_PING = 37,
};

/* Bits of the header's flags. */
enum {
	HK_MSG_SKIPPABLE = 1 << 0, /* a receiver that does not know the type drops the message */
};

/* ---- Lists --------------------------------------------------------------------------------- */

/** struct hk_control_list - elements in wire form; borrows its bytes, walked by value */
struct hk_control_list {
	const uint8_t *data;
	uint32_t len_bytes;
	uint32_t count;
	int error; /* of the builder it comes from; hk_control_put() returns it */
};

/** struct hk_control_buf - bytes to send; zero-initialize, then hk_control_buf_finish() */
struct hk_control_buf {
	uint8_t *data; /* owned */
	size_t len;
	size_t cap;
};

void hk_control_buf_finish(struct hk_control_buf *buf);

/** hk_control_buf_consume() - drop the first @len bytes: they were sent */
void hk_control_buf_consume(struct hk_control_buf *buf, size_t len);

/** struct hk_control_builder - a list being made; zero-initialize, then ..._finish() */
struct hk_control_builder {
	struct hk_control_buf buf;
	uint32_t count;
	int error; /* sticky: 0, -ENOMEM, -E2BIG, -EINVAL */
};

void hk_control_builder_finish(struct hk_control_builder *builder);

/** hk_control_built() - the list; borrows from @builder until that grows or is finished */
struct hk_control_list hk_control_built(const struct hk_control_builder *builder);

/**
 * hk_control_add_string() - append @s (a NUL-terminated string, copied)
 *
 * Return: 0, or the builder's sticky error, which may go unread: hk_control_put() returns it too.
 */
int hk_control_add_string(struct hk_control_builder *builder, const char *s);

/** hk_control_next_string() - take the first string off @list. Return: false if there is none */
bool hk_control_next_string(struct hk_control_list *list, const char **ret_string);

/* ---- The steps of a set-up ----------------------------------------------------------------- */

/*
 * How the box's file tree is made. The new root starts as an empty tmpfs, or as the overlay that
 * the first step lays at "/". In it the agent mounts /proc, /sys, /dev, /dev/pts, /dev/shm, /run
 * and /tmp, then carries out the steps in order. Paths are absolute, seen from the new root;
 * symbolic links in them are followed but cannot leave it. Missing parents and mount points are
 * made (root's, mode 0755; a file where the export is a file).
 *
 *	step	 uses, beside path		makes
 *	FS	 source, flags			export @source, at @path
 *	TMPFS	 mode, uid, gid, size_bytes	an empty file system
 *	DIR	 mode, uid, gid			a directory; sets both of one that is there
 *	SYMLINK	 source				@path -> @source
 *	FILE	 mode, uid, gid, content	a regular file, in place of what was there
 *	OVERLAY	 source, flags, size_bytes,	export @source with a tmpfs above it that takes all
 *		 upper				writes and at first holds what @upper lists
 *	HIDE					nothing: what the export has at @path is not seen
 *
 * @upper is a list of DIR, SYMLINK, FILE and HIDE steps, with paths seen from the overlay's root.
 * HIDE stands in such a list only. Only the first step may be an overlay at "/".
 */
enum hk_step_type {
	HK_STEP_FS = 1,
	HK_STEP_TMPFS = 2,
	HK_STEP_DIR = 3,
	HK_STEP_SYMLINK = 4,
	HK_STEP_FILE = 5,
	HK_STEP_OVERLAY = 6,
	HK_STEP_HIDE = 7,
	HK_STEP_TYPE_COUNT,
};

enum {
	HK_STEP_RO = 1 << 0, /* the mount is read-only */
};

/** struct hk_step - one step; fields its type does not use are zero */
struct hk_step {
	enum hk_step_type type;
	uint32_t flags; /* HK_STEP_ */
	uint32_t mode;  /* permission bits, 07777 */
	uint32_t uid;
	uint32_t gid;
	uint64_t size_bytes; /* most a tmpfs may hold; 0: half of the memory */
	const char *path;
	const char *source; /* an export's name; a symbolic link's target */
	const uint8_t *content;
	uint32_t content_len;
	struct hk_control_list upper;
};

/**
 * hk_control_add_step() - append a copy of @step
 *
 * Return: 0, or the builder's sticky error: -EINVAL for a step that is not as above.
 */
int hk_control_add_step(struct hk_control_builder *builder, const struct hk_step *step);

/** hk_control_next_step() - take the first step off @list. Return: false if there is none */
bool hk_control_next_step(struct hk_control_list *list, struct hk_step *ret_step);

/* ---- Messages ------------------------------------------------------------------------------ */

struct hk_msg_hello {
	uint32_t version;          /* of the protocol; if not HK_CONTROL_VERSION the rest is zero */
	uint64_t boottime_ns;      /* CLOCK_BOOTTIME: how long kernel and agent took */
	const char *agent_version; /* guest's words: at most HK_CONTROL_MAX_TEXT, escape to print */
	const char *kernel_release;
};

struct hk_msg_done {
	uint32_t id; /* of the request */
};

struct hk_msg_failed {
	uint32_t id;
	uint32_t error;   /* a Linux errno, positive */
	const char *text; /* guest's words, without the errno's: "FS 'src' on '/src': create" */
};

struct hk_msg_started {
	uint32_t id;
	uint32_t pid; /* in the guest */
};

/* What the agent was doing for a command when it failed. */
enum hk_exec_stage {
	HK_EXEC_STAGE_SPAWN = 1, /* before it was a process: pipes, pty, fork, too many commands */
	HK_EXEC_STAGE_USER = 2,  /* taking on uid and gid */
	HK_EXEC_STAGE_CWD = 3,   /* chdir to EXEC's cwd */
	HK_EXEC_STAGE_EXEC = 4,  /* execve: ENOENT is 127 to a shell, other errors 126 */
	HK_EXEC_STAGE_COUNT,
};

struct hk_msg_exec_failed {
	uint32_t id;
	uint32_t error; /* a Linux errno, positive */
	enum hk_exec_stage stage;
};

struct hk_msg_exited {
	uint32_t id;
	bool signaled;      /* ended by a signal */
	bool core;          /* a signal that dumps core */
	uint32_t code;      /* exit status 0-255, or the signal's number */
	uint32_t oom_kills; /* processes the guest's OOM killer ended while the command ran */
	/*
	 * How much the command had written to its streams when it ended. Who has read so many bytes
	 * of a stream, or its end, has all of the command's output; what background processes add
	 * comes after. A tty ends with its command: HK_CONTROL_UNTIL_END.
	 */
	uint64_t stdout_bytes;
	uint64_t stderr_bytes;
};

#define HK_CONTROL_UNTIL_END UINT64_MAX

struct hk_msg_setup {
	uint32_t id;                               /* of the request; DONE or FAILED repeats it */
	uint64_t wall_time_ns;                     /* CLOCK_REALTIME of the host, when HELLO came */
	uint8_t entropy[HK_CONTROL_ENTROPY_BYTES]; /* fresh random bytes, credited in full */
	const char *hostname;
	struct hk_control_list steps;
};

enum {
	HK_EXEC_PTY = 1 << 0,   /* a terminal: one stream HK_STREAM_TTY, none of the others */
	HK_EXEC_STDIN = 1 << 1, /* without PTY: which streams there are; else /dev/null */
	HK_EXEC_STDOUT = 1 << 2,
	HK_EXEC_STDERR = 1 << 3,
	HK_EXEC_MERGE =
		1 << 4, /* with STDOUT, not STDERR: stderr goes to stdout's stream, in order */
};

struct hk_msg_exec {
	uint32_t id; /* of the command; not that of one that still runs */
	uint32_t flags;
	uint32_t uid; /* not 0: no supplementary groups, no new privileges */
	uint32_t gid;
	uint16_t rows; /* PTY only; 0: unknown */
	uint16_t cols;
	const char *cwd;             /* absolute */
	struct hk_control_list argv; /* strings, at least one; argv[0] is looked up in env's PATH */
	struct hk_control_list env;  /* strings, NAME=VALUE; all of the command's environment */
};

struct hk_msg_signal {
	uint32_t id;
	uint32_t signo; /* 1-64; to the command's process group; ignored if the command is gone */
};

struct hk_msg_winsize {
	uint32_t id;
	uint16_t rows;
	uint16_t cols;
};

struct hk_msg_ping { /* and PONG, which repeats it */
	uint64_t cookie;
};

/** struct hk_control_msg - a message; decoded ones borrow from the decoder */
struct hk_control_msg {
	enum hk_msg_type type;
	union {
		struct hk_msg_hello hello;
		struct hk_msg_done done;
		struct hk_msg_failed failed;
		struct hk_msg_started started;
		struct hk_msg_exec_failed exec_failed;
		struct hk_msg_exited exited;
		struct hk_msg_ping pong;
		struct hk_msg_setup setup;
		struct hk_msg_exec exec;
		struct hk_msg_signal signal;
		struct hk_msg_winsize winsize;
		struct hk_msg_ping ping;
	};
};

/**
 * hk_control_put() - append a message to @buf
 * @buf: unchanged on failure
 *
 * Return: 0; -ENOMEM; -E2BIG if it is longer than a message or a list may be; -EINVAL if a field
 * breaks the rules of hako-control(7) (the receiver would hang up): a string too long, a relative
 * path, ...
 */
int hk_control_put(struct hk_control_buf *buf, const struct hk_control_msg *msg);

/** struct hk_control_decoder - cuts a byte stream into messages */
struct hk_control_decoder {
	enum hk_control_dir dir;
	int error;    /* sticky */
	uint8_t *buf; /* owned; header and body of the message being received */
	size_t len;
	size_t cap;
	bool complete; /* @buf holds a message that was given out: the next call drops it */
};

/** hk_control_decoder_init() - for the messages that come from @dir's side */
void hk_control_decoder_init(struct hk_control_decoder *dec, enum hk_control_dir dir);
void hk_control_decoder_finish(struct hk_control_decoder *dec);

/**
 * hk_control_feed() - take bytes until a message is complete
 * @bytes: advanced past what was taken
 * @len: lowered by as much
 * @ret_msg: set on 1; its pointers are good until the next call for @dec
 *
 * Unknown types flagged HK_MSG_SKIPPABLE are dropped here. The buffer grows as bytes arrive, not as
 * the header promises, and never beyond the limit of @dec's direction.
 *
 * Return: 1 with a message; 0 when all bytes are taken; sticky errors: -EMSGSIZE too long,
 * -EPROTO unknown type or wrong direction, -EBADMSG a body that is not as specified, -ENOMEM.
 */
int hk_control_feed(struct hk_control_decoder *dec, const uint8_t **bytes, size_t *len,
	struct hk_control_msg *ret_msg);

/**
 * hk_control_pending() - the bytes of an unfinished message
 *
 * That is all of a decoder's state: saved, and fed to a new decoder, they restore it.
 */
const uint8_t *hk_control_pending(const struct hk_control_decoder *dec, size_t *ret_len);

/* ---- Streams ------------------------------------------------------------------------------- */

enum hk_stream_kind {
	HK_STREAM_STDIN = 0,  /* host to guest */
	HK_STREAM_STDOUT = 1, /* guest to host */
	HK_STREAM_STDERR = 2, /* guest to host */
	HK_STREAM_TTY = 3,    /* both */
	HK_STREAM_KIND_COUNT,
};

enum { HK_STREAM_PREAMBLE_BYTES = 16 };

/** struct hk_stream_preamble - what the guest sends first on a stream, before the data */
struct hk_stream_preamble {
	uint32_t command_id;
	enum hk_stream_kind kind;
};

void hk_stream_preamble_put(uint8_t bytes[HK_STREAM_PREAMBLE_BYTES], struct hk_stream_preamble p);

/** hk_stream_preamble_get() - Return: 0; -EPROTO: no preamble, or of another version or kind */
int hk_stream_preamble_get(
	const uint8_t bytes[HK_STREAM_PREAMBLE_BYTES], struct hk_stream_preamble *ret_p);

#endif
