/* SPDX-License-Identifier: ISC */
/* `hako VERB ...`: finds the verb. The only file with a main() and the table of all verbs. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/builtin.h"

static const struct hk_verb verbs[] = {
	{"run", "run a command in a box of its own", hk_cmd_run, false},
	{"trace", "run a command here, and see or limit what it does to files", hk_cmd_trace, true},
	{"diff", "show what a kept layer changes", hk_cmd_diff, false},
	{"apply", "bring a kept layer's changes below", hk_cmd_apply, false},
	{"discard", "remove a kept layer", hk_cmd_discard, false},
	{"layers", "list the layers that are kept", hk_cmd_layers, false},
	{"doctor", "say what this host can do, and why not", hk_cmd_doctor, false},
	{"kernel", "get and manage the kernels that boxes boot", hk_cmd_kernel, false},
	{"version", "say which hako this is", hk_cmd_version, false},
};

static void print_help(FILE *out)
{
	fputs("Run anything you don't fully trust in a microVM of its own.\n\n"
	      "usage: hako VERB [option]...\n\n",
		out);
	for (size_t i = 0; i < HK_ARRAY_SIZE(verbs); i++) {
		fprintf(out, "  %-10s%s\n", verbs[i].name, verbs[i].summary);
	}
	fputs("\nhako VERB --help says more; so do hako(1) and hako-VERB(1).\n"
	      "For a start: hako run -- uname -a\n",
		out);
}

/*
 * Where the caller has closed a standard stream, a file of ours would take its place. So what is
 * there is nothing, and cannot be used the way it is meant to, as if it were closed; in what we
 * start it is.
 */
static void keep_streams_free(void)
{
	static const int unfit[] = {O_WRONLY, O_RDONLY, O_RDONLY};

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0) {
			(void)open("/dev/null", unfit[fd] | O_CLOEXEC);
		}
	}
}

/* What any verb wants of the process. */
static void prepare_process(void)
{
	struct rlimit files;

	/* A file server holds many files open, and the soft limit is there for select(2). */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
}

static int run_verb(const struct hk_verb *verb, char **argv)
{
	if (!verb->as_called) {
		prepare_process();
	}
	return verb->run(argv);
}

static int help(char **argv)
{
	char *verb_argv[] = {argv[1], (char *)"--help", NULL};

	for (size_t i = 0; argv[1] != NULL && i < HK_ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) == 0) {
			return run_verb(&verbs[i], verb_argv);
		}
	}
	print_help(stdout);
	return HK_STATUS_OK;
}

/* Under another name we are what that name says. */
static bool is_called(char **argv, const char *name)
{
	const char *slash = argv[0] == NULL ? NULL : strrchr(argv[0], '/');
	const char *called = slash == NULL ? argv[0] : slash + 1;

	return called != NULL && strcmp(called, name) == 0;
}

static int dispatch(char **argv)
{
	const char *name = argv[0] == NULL ? NULL : argv[1];

	if (is_called(argv, "sandbox")) {
		return hk_cmd_sandbox(argv);
	}
	if (name == NULL) {
		print_help(stderr);
		return HK_STATUS_USAGE;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		return help(argv + 1);
	}
	if (strcmp(name, "--version") == 0) {
		name = "version";
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(verbs); i++) {
		if (strcmp(name, verbs[i].name) == 0) {
			return run_verb(&verbs[i], argv + 1);
		}
	}
	fprintf(stderr, "hako: '%.64s' is no verb; see hako --help\n", name);
	return HK_STATUS_USAGE;
}

int main(int argc, char **argv)
{
	int status;

	keep_streams_free();
	status = dispatch(argv);

	if (fflush(stdout) != 0 && status == HK_STATUS_OK) {
		perror("hako: standard output");
		return HK_STATUS_FAILURE;
	}
	return status;
}
