/* SPDX-License-Identifier: ISC */
/*
 * The inside of the audit, shared by its files:
 *
 *	audit.c			the queue and the thread that empties it
 *	audit_proc_linux.c	who a process is
 *	audit_log_linux.c	the log's descriptor; what the terminal is like
 *	audit_json.c		JSON
 *	audit_line.c		the lines of the log
 *	audit_tree.c		sums for each path, command and rule
 *	audit_group.c		few directories that say where most happened
 *	audit_text.c		the summary
 *	audit_report.c		the report as JSON
 *	audit_html.c		the report as a page, audit_page.html
 *	audit_learn.c		the policy a run would have needed
 *	audit_wide.c		where that policy may rule directories as a whole
 *
 * An event goes from a thread of the server into the queue, and from there, by the audit's own
 * thread, into the log and into the tree. All else works on the tree when that thread is done.
 */
#ifndef HK_FUSE_AUDIT_IMPL_H
#define HK_FUSE_AUDIT_IMPL_H

#include <stddef.h>

#include "base/util.h"
#include "fuse/audit.h"

enum {
	/* A longer path loses its end, and the line says so. */
	HK_AUDIT_PATH_MAX = 65535,
	HK_COMMAND_SIZE = 16, /* TASK_COMM_LEN */
};

/* Processes */

/**
 * struct hk_process - who did it
 * @pid: of the process, where the event came from one of its threads
 * @command: as the kernel names the process, any bytes; "" where unknown
 */
struct hk_process {
	pid_t pid, ppid;
	char command[HK_COMMAND_SIZE];
};

struct hk_processes;

/**
 * hk_processes_create() - @proc as in struct hk_audit_options. Return: 0, -ENOMEM, or what opening
 * it gave
 */
int hk_processes_create(const char *proc, struct hk_processes **ret_processes, struct hk_err *err);
void hk_processes_destroy(struct hk_processes *processes); /* NULL is fine */

/**
 * hk_processes_find() - who is @pid? Any thread.
 * @now_ns: what is known is good for a second
 * @runs: it is about to become another program: what is known is good for no later event
 */
void hk_processes_find(struct hk_processes *processes, pid_t pid, uint64_t now_ns, bool runs,
	struct hk_process *ret_process);

/**
 * hk_processes_note() - after hk_processes_find(): what @pid does, so that it has a name where
 * nobody is looked up
 *
 * It takes the name of what it opens to run, from its next event on.
 */
void hk_processes_note(struct hk_processes *processes, const struct hk_audit_event *event);

/* The queue's records */

/**
 * struct hk_record - an event in the queue; what the names have in common with struct
 * hk_audit_event means the same
 * @size: of all, a multiple of 8; 0: nothing more before the ring's end
 * @paths: path, NUL, other path, NUL
 */
struct hk_record {
	uint32_t size;
	uint32_t path_len, other_len;
	uint32_t flags;
	uint32_t rule;
	int32_t error;
	pid_t tid;
	uid_t uid;
	uint64_t time_ns;
	uint64_t bytes_read, bytes_written;
	uint8_t op, class, verdict;
	bool exact, has_other, cut;
	struct hk_process process;
	char paths[];
};

static inline const char *hk_record_other(const struct hk_record *record)
{
	return record->paths + record->path_len + 1;
}

/** hk_verdict_refuses() - did the policy, not the file system, give @error? */
static inline bool hk_verdict_refuses(enum hk_verdict verdict, int error)
{
	return error != 0 &&
		(verdict == HK_VERDICT_DENY || verdict == HK_VERDICT_HIDE ||
			(verdict == HK_VERDICT_ASK && (error == EACCES || error == EPERM)));
}

/* JSON */

enum { HK_JSON_BUFFER = 64 * 1024 };

/**
 * struct hk_json - JSON on its way out
 * @put: takes what has been written; @len bytes; keeps its own errors
 * @comma: the next key or element needs one before it
 */
struct hk_json {
	void (*put)(struct hk_json *json, const char *bytes, size_t len);
	bool comma;
	size_t len;
	char buffer[HK_JSON_BUFFER];
};

void hk_json_flush(struct hk_json *json);
/**
 * hk_json_room() - what follows will be in one piece, up to @len bytes, HK_JSON_BUFFER at most.
 * Return: where
 */
char *hk_json_room(struct hk_json *json, size_t len);
void hk_json_raw(struct hk_json *json, const char *text); /* as it is */
void hk_json_raw_bytes(struct hk_json *json, const char *bytes, size_t len);
void hk_json_open(struct hk_json *json, char bracket);  /* '{' or '[' */
void hk_json_close(struct hk_json *json, char bracket); /* '}' or ']' */
void hk_json_key(struct hk_json *json, const char *key);
void hk_json_element(struct hk_json *json); /* a comma, where one is due */
void hk_json_u64(struct hk_json *json, uint64_t value);
/** hk_json_text() - a string; bytes that are no UTF-8 become U+FFFD. Return: was it UTF-8? */
bool hk_json_text(struct hk_json *json, const char *bytes, size_t len);
/** hk_json_bytes() - "@key":"text", and "@key_hex" with the bytes where they are no UTF-8 */
void hk_json_bytes(struct hk_json *json, const char *key, const char *bytes, size_t len);
/** hk_json_number() - "@key":@value */
void hk_json_number(struct hk_json *json, const char *key, uint64_t value);

/** struct hk_json_file - JSON into a stdio stream; @error: positive errno, sticky */
struct hk_json_file {
	struct hk_json json;
	FILE *to;
	int error;
};

void hk_json_file_init(struct hk_json_file *file, FILE *to);
/** hk_json_file_finish() - Return: 0 or -errno */
int hk_json_file_finish(struct hk_json_file *file);

/* Lines of the log */
enum { HK_AUDIT_VERSION = 1 };

/* Who did it, as members: four numbers of ten digits, and a name of escapes, once more in hex. */
enum { HK_LINE_WHO_SIZE = 256, HK_LINE_TIME_SIZE = 32 };

/**
 * struct hk_lines - the log on its way out; zero-initialize but for @json.put
 * @second, @time: the time of the line before, and how it begins
 * @tid, @uid, @process, @who: who the line before tells of, and how; @who_len 0: there is none
 */
struct hk_lines {
	struct hk_json json;
	uint64_t second;
	char time[HK_LINE_TIME_SIZE];
	pid_t tid;
	uid_t uid;
	struct hk_process process;
	size_t who_len;
	char who[HK_LINE_WHO_SIZE];
};

void hk_lines_begin(struct hk_lines *lines, uint64_t time_ns, const struct hk_audit_root *roots,
	unsigned root_count);
void hk_lines_event(
	struct hk_lines *lines, const struct hk_record *record, const struct hk_rules *rules);
void hk_lines_end(struct hk_lines *lines, uint64_t time_ns, uint64_t events, uint64_t violations,
	uint64_t blocked_ns);

/* The log's descriptor */

/** hk_log_write() - all of it, also where @fd does not block. Return: 0 or -errno */
int hk_log_write(int fd, const char *bytes, size_t len);

/** struct hk_terminal - what a summary has to fit */
struct hk_terminal {
	unsigned columns;
	bool colours;
};

struct hk_terminal hk_terminal_of(FILE *to);

/* The tree */

enum {
	HK_TREE_NONE = UINT32_MAX,
	HK_TREE_ROOT = 0,
	HK_NODE_COMMANDS = 4,
	HK_COMMANDS_MAX = 256,
	HK_TREE_LAST_DIR_SIZE = 256,
};

enum hk_node_flag {
	HK_NODE_DIR = 1 << 0,
	HK_NODE_CREATED = 1 << 1, /* by the run */
	HK_NODE_GONE = 1 << 2,    /* the last that happened to the name was its removal */
	HK_NODE_BOUND = 1 << 3,   /* bytes are an estimate */
	HK_NODE_HIDDEN = 1 << 4,  /* a rule hid it */
	HK_NODE_OTHERS = 1 << 5,  /* stands for further paths, too: there were too many */
	HK_NODE_LINK = 1 << 6,    /* a symbolic link */
};

/**
 * struct hk_tree_node - one path
 * @parent: index; of the root: HK_TREE_NONE. Parents come before what is in them
 * @name: offset in the tree's names; of @name_len bytes
 * @asked: classes that were asked for and that the policy did not refuse, as bits
 * @cow: those of @asked that went to an upper layer
 * @refused: classes that the policy refused
 * @rule: which refused last
 * @done: how often each class was done
 * @missing: lookups in vain
 * @failures: how often the file system said no
 * @refused_lookups: those of @refusals that only looked for it
 * @commands: who did it: indices into the tree's commands, HK_COMMANDS_MAX: none
 * @refused_by: who was refused, likewise; @refused_more: bits of those who did more than look for
 *	it
 */
struct hk_tree_node {
	uint32_t parent;
	uint32_t name;
	uint16_t name_len;
	uint8_t asked, cow, refused;
	uint8_t flags;
	uint32_t rule;
	uint32_t done[HK_CLASS_COUNT];
	uint32_t refusals, refused_lookups, failures, missing;
	uint16_t commands[HK_NODE_COMMANDS];
	uint16_t refused_by[HK_NODE_COMMANDS];
	uint8_t refused_more;
	uint64_t bytes_read, bytes_written;
};

struct hk_tree_command {
	char name[HK_COMMAND_SIZE];
	uint64_t events, refusals, execs;
	uint64_t bytes_read, bytes_written;
};

struct hk_tree_rule {
	uint64_t used, refusals;
};

/**
 * struct hk_tree - sums; zero-initialized, then hk_tree_init()
 * @slots: hash table of indices of @nodes, HK_TREE_NONE where empty
 * @rules: by number
 * @node_limit: paths beyond it count for the directory they are in
 * @beyond_limit: events that did
 * @last_dir, @last_dir_node: the directory of the last path, with its slash, and its node: the next
 *	one is mostly in it
 * @last_command: the last event's
 */
struct hk_tree {
	struct hk_tree_node *nodes;
	uint32_t node_count, node_cap, node_limit;
	char *names;
	size_t names_len, names_cap;
	uint32_t *slots;
	uint32_t slot_count;
	struct hk_tree_command commands[HK_COMMANDS_MAX];
	unsigned command_count;
	struct hk_tree_rule *rules;
	uint32_t rule_count;
	uint64_t ops[HK_EVENT_COUNT];
	uint64_t events, refusals, beyond_limit;
	uint64_t first_ns, last_ns;
	char last_dir[HK_TREE_LAST_DIR_SIZE];
	size_t last_dir_len;
	uint32_t last_dir_node;
	unsigned last_command;
};

int hk_tree_init(struct hk_tree *tree); /* 0 or -ENOMEM */
void hk_tree_finish(struct hk_tree *tree);
void hk_tree_add(struct hk_tree *tree, const struct hk_record *record);

/** hk_tree_find() - Return: index of the node of a path, or HK_TREE_NONE */
uint32_t hk_tree_find(const struct hk_tree *tree, const char *path);

/** hk_tree_path() - "/usr/lib"; the root is "/". Return: 0 or -ENOMEM; @ret_path: free() */
int hk_tree_path(const struct hk_tree *tree, uint32_t node, char **ret_path, size_t *ret_len);

/**
 * hk_tree_sorted() - all nodes, each directory followed by what is in it, by name. Return: free();
 * NULL: no memory
 */
uint32_t *hk_tree_sorted(const struct hk_tree *tree);

static inline uint8_t hk_class_bit(enum hk_class class)
{
	return (uint8_t)(1u << class);
}

/* What only looks, and changes nothing. */
enum { HK_CLASS_LOOKS = 1 << HK_CLASS_READ | 1 << HK_CLASS_LIST | 1 << HK_CLASS_EXEC };

/**
 * hk_tree_wide() - where one rule for all below would say no more, and nothing else, than the run's
 * policy said
 * @rules: of the run; NULL: there was no policy
 * @ret_wide: for each node, zeroed: classes, as bits, in which a directory may be ruled as a whole
 * @ret_denied: likewise: classes in which the policy denies the node itself
 *
 * Return: 0 or -ENOMEM.
 */
int hk_tree_wide(
	const struct hk_tree *tree, struct hk_rules *rules, uint8_t *ret_wide, uint8_t *ret_denied);

/** hk_node_changes() - was the path written, created, removed or given other attributes? */
static inline uint32_t hk_node_changes(const struct hk_tree_node *node)
{
	return node->done[HK_CLASS_WRITE] | node->done[HK_CLASS_CREATE] |
		node->done[HK_CLASS_DELETE] | node->done[HK_CLASS_METADATA] |
		node->done[HK_CLASS_LINK];
}

/* Groups of directories, for the summary */

/** struct hk_group - @node and all below it, without what other groups have */
struct hk_group {
	uint32_t node;
	bool only_entries; /* what is directly in it: its directories are groups of their own */
	uint64_t files, bytes;
};

/**
 * hk_tree_group() - few directories that say where something happened
 * @files, @bytes: for each node, its own numbers; replaced by sums with all below
 * @ret_groups: room for @max of them, by number of bytes, then of files
 *
 * Return: how many.
 */
unsigned hk_tree_group(const struct hk_tree *tree, uint64_t *files, uint64_t *bytes,
	struct hk_group *ret_groups, unsigned max);

/** struct hk_audit - see audit.c; this is what is read when the thread is done */
struct hk_audit_results {
	const struct hk_tree *tree;
	struct hk_rules *rules; /* borrowed; may be NULL */
	const char *home, *cwd; /* absolute without a slash at the end, or NULL */
	uint64_t violations, blocked_ns, blocked_times, lines_lost;
};

const struct hk_audit_results *hk_audit_results(struct hk_audit *audit);

/** hk_audit_rule_text() - as the rules give it, or NULL */
const char *hk_audit_rule_text(const struct hk_audit_results *results, uint32_t rule);

/**
 * hk_audit_report_body() - the object both reports have; @as_tree: paths as the page wants them.
 * Return: 0 or -ENOMEM
 */
int hk_audit_report_body(struct hk_json *json, const struct hk_audit_results *results,
	const char *command, bool as_tree);

#endif
