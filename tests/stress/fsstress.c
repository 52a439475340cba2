/* SPDX-License-Identifier: ISC */
/*
 * fsstress: all that can be done to names and files, at random, in a small tree where the same
 * names meet again and again.
 *
 *	fsstress [--seed N] [--ops N] [--processes N] DIR
 *
 * One process prints each operation with what came of it, then the whole tree: names, types, modes,
 * owners, links, sizes, content, attributes. On two file systems, or with copy-on-write and
 * without, the output of one seed must be the same.
 *
 * Several processes work in the same tree at once, so nothing can be told of a single operation;
 * then it checks what must hold at any time and in the end: no error but those that a race
 * explains; what is read was written there; a list has each name once, and each can be looked at;
 * as many names of a file are found as it says it has links.
 *
 * A byte of a file depends on nothing but its offset, or is zero. Exit status: 0, or 1 where
 * something is wrong.
 *
 * In the manner of the program of that name of the Linux Test Project; nothing of it is in here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "stress.h"

enum { NAMES = 6, DEPTH = 3, PATH = 256, OPEN_FILES = 6, MAX_SIZE = 200000, MAX_IO = 20000 };

static struct {
	uint64_t random;
	unsigned long op;
	bool alone;
	int files[OPEN_FILES]; /* -1: none */
} s;

static unsigned char buffer[MAX_IO];

static void fail(const char *what, const char *path)
{
	printf("wrong: operation %lu: %s: %s: %s\n", s.op, what, path, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static unsigned char byte_at(size_t offset)
{
	return (unsigned char)(1 + (offset * 31 + (offset >> 9)) % 251);
}

static unsigned below(unsigned limit)
{
	return random_below(&s.random, limit);
}

/*
 * Mostly one of few names, up to DEPTH directories down; some of them cannot be, as there are files
 * on the way.
 */
static void pick(char path[PATH])
{
	unsigned depth = 1 + below(DEPTH);
	size_t len = 0;

	for (unsigned i = 0; i < depth; i++) {
		len += (size_t)snprintf(
			path + len, PATH - len, "%s%c", i > 0 ? "/" : "", 'a' + (int)below(NAMES));
	}
	if (below(40) == 0) {
		snprintf(path + len, PATH - len, "/%s", below(2) == 0 ? "." : "..");
	}
}

/* May @error come of a race, or of a name that is in use for something else? */
static bool is_usual(int error)
{
	static const int usual[] = {ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, ELOOP,
		EBUSY, ENXIO, EPERM, EACCES, ENODATA, EOPNOTSUPP, EXDEV, ESTALE, ETXTBSY, EBADF,
		ESPIPE, ENODEV, EMLINK};

	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
		if (error == usual[i]) {
			/*
			 * A name that was given up meanwhile is looked up anew: the caller never
			 * hears of it.
			 */
			return error != ESTALE;
		}
	}
	return false;
}

static void tell(const char *what, const char *path, const char *other, long result)
{
	if (result < 0 && !is_usual(errno)) {
		fail(what, path);
	}
	if (s.alone) {
		printf("%lu %s %s %s: %s\n", s.op, what, path, other,
			result < 0 ? strerror(errno) : "done");
	}
}

static void check_bytes(const char *path, size_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (buffer[i] != 0 && buffer[i] != byte_at(offset + i)) {
			errno = 0;
			fail("content", path);
		}
	}
}

static long write_some(int fd)
{
	size_t offset = below(MAX_SIZE);
	size_t len = 1 + below(MAX_IO);

	for (size_t i = 0; i < len; i++) {
		buffer[i] = byte_at(offset + i);
	}
	return pwrite(fd, buffer, len, (off_t)offset);
}

static void op_open(void)
{
	static const int flags[] = {O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL,
		O_RDWR | O_CREAT | O_TRUNC, O_RDONLY, O_WRONLY, O_RDONLY | O_DIRECTORY,
		O_RDWR | O_NOFOLLOW, O_PATH};
	unsigned slot = below(OPEN_FILES);
	char path[PATH];

	pick(path);
	if (s.files[slot] >= 0) {
		close(s.files[slot]);
	}
	s.files[slot] = open(path, flags[below(8)] | O_CLOEXEC | O_NONBLOCK, 0600 + below(64));
	tell("open", path, "", s.files[slot]);
}

static void op_write(void)
{
	unsigned slot = below(OPEN_FILES);
	long n = write_some(s.files[slot]);

	tell("write", "open file", "", n);
}

static void op_read(void)
{
	unsigned slot = below(OPEN_FILES);
	size_t offset = below(MAX_SIZE);
	ssize_t n = pread(s.files[slot], buffer, sizeof(buffer), (off_t)offset);
	struct stat st;

	if (n > 0 && fstat(s.files[slot], &st) == 0 && S_ISREG(st.st_mode)) {
		check_bytes("open file", offset, (size_t)n);
	}
	tell("read", "open file", n > 0 ? "some" : "none", n);
}

static void op_resize(void)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE};
	unsigned slot = below(OPEN_FILES);
	off_t size = (off_t)below(MAX_SIZE);
	unsigned way = below(4);

	tell("resize", "open file", "",
		way == 3 ? ftruncate(s.files[slot], size)
			 : fallocate(s.files[slot], modes[way], size, 1 + (off_t)below(MAX_IO)));
}

static void op_truncate(void)
{
	char path[PATH];
	off_t size = (off_t)below(MAX_SIZE);

	pick(path);
	tell("truncate", path, "", truncate(path, size));
}

static void op_make(void)
{
	static const char *const targets[] = {"a", "../b", "nowhere", "c/a", "../a/b"};
	char path[PATH];

	pick(path);
	switch (below(5)) {
	case 0:
		tell("symlink", path, "", symlink(targets[below(5)], path));
		break;
	case 1:
		tell("fifo", path, "", mkfifo(path, 0640));
		break;
	default:
		tell("mkdir", path, "", mkdir(path, 0700 + below(64)));
	}
}

static void op_link(void)
{
	char path[PATH], other[PATH];
	int flags = below(3) == 0 ? AT_SYMLINK_FOLLOW : 0;

	pick(path);
	pick(other);
	tell("link", path, other, linkat(AT_FDCWD, path, AT_FDCWD, other, flags));
}

static void op_rename(void)
{
	char path[PATH], other[PATH];
	unsigned kind = below(6);

	pick(path);
	pick(other);
	tell(kind == 0 ? "exchange" : "rename", path, other,
		renameat2(AT_FDCWD, path, AT_FDCWD, other,
			kind == 0           ? RENAME_EXCHANGE
				: kind == 1 ? RENAME_NOREPLACE
					    : 0));
}

static void op_remove(void)
{
	char path[PATH];

	pick(path);
	if (below(3) == 0) {
		tell("rmdir", path, "", rmdir(path));
	} else {
		tell("unlink", path, "", unlink(path));
	}
}

static void op_change(void)
{
	struct timespec times[2] = {
		{.tv_sec = 1000000 + below(1000)}, {.tv_sec = 2000000 + below(1000)}};
	char path[PATH];
	struct stat st;
	long r;

	pick(path);
	switch (below(3)) {
	case 0:
		/* Its owner can still use it, whoever that is. */
		tell("chmod", path, "", chmod(path, 0700 + below(64)));
		break;
	case 1:
		tell("chown", path, "",
			lchown(path, geteuid(), geteuid() == 0 ? below(3) : getegid()));
		break;
	default:
		r = utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
		tell("utimes", path, "", r);
		if (r == 0 && s.alone &&
			(lstat(path, &st) < 0 || st.st_mtim.tv_sec != times[1].tv_sec)) {
			fail("time", path);
		}
	}
}

static void op_xattr(void)
{
	char path[PATH], name[16], value[64];
	ssize_t n;

	pick(path);
	snprintf(name, sizeof(name), "user.%c", 'a' + (int)below(3));
	switch (below(3)) {
	case 0:
		n = (ssize_t)below(sizeof(value));
		memset(value, 'a' + (int)below(26), (size_t)n);
		tell("setxattr", path, name, setxattr(path, name, value, (size_t)n, 0));
		break;
	case 1:
		tell("removexattr", path, name, removexattr(path, name));
		break;
	default:
		n = getxattr(path, name, value, sizeof(value));
		tell("getxattr", path, name, n);
	}
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/*
 * The names in @dir but "." and "..", sorted. Return: how many, or -1. Twice the same is wrong, but
 * not while others rename.
 */
static int list(const char *dir, char ***ret_names, bool is_still)
{
	DIR *stream = opendir(dir);
	char **names = NULL;
	struct dirent *entry;
	int count = 0;

	if (stream == NULL) {
		return -1;
	}
	while ((entry = readdir(stream)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			names = realloc(names, (size_t)(count + 1) * sizeof(*names));
			names[count++] = strdup(entry->d_name);
		}
	}
	closedir(stream);
	if (count > 0) {
		qsort(names, (size_t)count, sizeof(*names), compare_names);
	}
	for (int i = 1; is_still && i < count; i++) {
		if (strcmp(names[i - 1], names[i]) == 0) {
			errno = EEXIST;
			fail("listed twice", names[i]);
		}
	}
	*ret_names = names;
	return count;
}

static void free_list(char **names, int count)
{
	for (int i = 0; i < count; i++) {
		free(names[i]);
	}
	free(names);
}

static void op_list(void)
{
	char path[PATH];
	char text[NAMES + 1] = "";
	char **names = NULL;
	int count;

	pick(path);
	count = list(path, &names, s.alone);
	for (int i = 0; i < count && i < NAMES; i++) {
		text[i] = names[i][0];
	}
	tell("list", path, text, count);
	free_list(names, count > 0 ? count : 0);
}

static void op_stat(void)
{
	char path[PATH], text[40] = "";
	struct stat st;
	int r;

	pick(path);
	r = below(2) == 0 ? stat(path, &st) : lstat(path, &st);
	if (r == 0 && !S_ISDIR(st.st_mode)) {
		snprintf(text, sizeof(text), "%o %lu %ld", st.st_mode, (unsigned long)st.st_nlink,
			(long)st.st_size);
	}
	tell("stat", path, text, r);
}

static void op_copy(void)
{
	unsigned from = below(OPEN_FILES), to = below(OPEN_FILES);
	/* One offset for both, so that bytes stay where they belong. */
	off_t offset = (off_t)below(MAX_SIZE), out = offset;

	tell("copy range", "open files", "",
		copy_file_range(s.files[from], &offset, s.files[to], &out, below(MAX_IO), 0));
}

/*
 * What the tree looks like, and is it in order? For each file with more names than one, @links gets
 * a line.
 */
static void show_xattrs(const char *path)
{
	char names[256], value[256];
	ssize_t size = llistxattr(path, names, sizeof(names));

	for (char c = 'a'; c <= 'c'; c++) {
		char name[8] = {'u', 's', 'e', 'r', '.', c};
		ssize_t n = lgetxattr(path, name, value, sizeof(value));
		bool listed =
			size > 0 && memmem(names, (size_t)size, name, sizeof("user.a")) != NULL;

		if (listed != (n >= 0)) {
			fail("list of attributes", path);
		}
		if (n >= 0) {
			printf(" %c=%zd:%c", c, n, n > 0 ? value[0] : '-');
		}
	}
}

static uint64_t hash_content(const char *path)
{
	uint64_t hash = hash_start;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t offset = 0;
	ssize_t n;

	if (fd < 0) {
		fail("open", path);
	}
	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		check_bytes(path, offset, (size_t)n);
		hash = hash_add(hash, buffer, (size_t)n);
		offset += (size_t)n;
	}
	close(fd);
	return hash;
}

struct link_count {
	dev_t dev;
	ino_t ino;
	nlink_t links, found;
	struct link_count *next;
};

static struct link_count *link_counts;

static void count_link(const struct stat *st)
{
	struct link_count *c = link_counts;

	while (c != NULL && (c->ino != st->st_ino || c->dev != st->st_dev)) {
		c = c->next;
	}
	if (c == NULL) {
		c = calloc(1, sizeof(*c));
		*c = (struct link_count){st->st_dev, st->st_ino, st->st_nlink, 0, link_counts};
		link_counts = c;
	}
	c->found++;
}

static void show_tree(const char *dir)
{
	char **names = NULL;
	int count = list(dir, &names, true);

	if (count < 0) {
		fail("list", dir);
	}
	for (int i = 0; i < count; i++) {
		char path[4096], target[PATH] = "";
		uint64_t hash = 0;
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (lstat(path, &st) < 0) {
			fail("stat", path);
		}
		if (S_ISREG(st.st_mode)) {
			hash = hash_content(path);
		} else if (S_ISLNK(st.st_mode) && readlink(path, target, sizeof(target) - 1) < 0) {
			fail("readlink", path);
		}
		printf("%s %o %u:%u %lu %ld %016llx %s", path, st.st_mode, st.st_uid, st.st_gid,
			S_ISDIR(st.st_mode) ? 0 : (unsigned long)st.st_nlink,
			S_ISDIR(st.st_mode) ? 0 : (long)st.st_size, (unsigned long long)hash,
			target);
		show_xattrs(path);
		printf("\n");
		if (S_ISDIR(st.st_mode)) {
			show_tree(path);
		} else {
			count_link(&st);
		}
	}
	free_list(names, count);
}

static void check_links(void)
{
	for (struct link_count *c = link_counts; c != NULL; c = c->next) {
		if (c->links != c->found) {
			printf("wrong: inode %lu has %lu links and %lu names\n",
				(unsigned long)c->ino, (unsigned long)c->links,
				(unsigned long)c->found);
			exit(1);
		}
	}
}

static void work(uint64_t seed, unsigned long ops)
{
	static void (*const operations[])(void) = {op_open, op_open, op_write, op_write, op_read,
		op_resize, op_truncate, op_make, op_make, op_link, op_rename, op_rename, op_remove,
		op_remove, op_change, op_xattr, op_list, op_stat, op_copy};
	unsigned count = sizeof(operations) / sizeof(operations[0]);

	s.random = random_start(seed);
	for (unsigned i = 0; i < OPEN_FILES; i++) {
		s.files[i] = -1;
	}
	for (s.op = 1; s.op <= ops; s.op++) {
		operations[below(count)]();
	}
	for (unsigned i = 0; i < OPEN_FILES; i++) {
		if (s.files[i] >= 0) {
			close(s.files[i]);
		}
	}
}

int main(int argc, char **argv)
{
	struct options options = {.seed = 1, .ops = 2000, .processes = 1};
	int result = 0;
	int status;

	parse_options(argc, argv, &options);
	/* One down: symbolic links lead to the directory above, too. */
	if (chdir(options.dir) < 0 || (mkdir("tree", 0755) < 0 && errno != EEXIST) ||
		chdir("tree") < 0) {
		perror(options.dir);
		return 2;
	}
	umask(022);
	s.alone = options.processes <= 1;
	fflush(stdout);
	for (unsigned long i = 0; !s.alone && i < options.processes; i++) {
		if (fork() == 0) {
			work(options.seed * 1000 + i, options.ops);
			fflush(stdout);
			_exit(0);
		}
	}
	if (s.alone) {
		work(options.seed, options.ops);
	}
	while (wait(&status) > 0) {
		result |= status != 0;
	}
	show_tree("..");
	check_links();
	return result;
}
