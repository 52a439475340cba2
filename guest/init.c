/* SPDX-License-Identifier: ISC */
/*
 * hako-guest: the first process of a box, /init of its initramfs.
 *
 * Theory: only what the control channel needs comes before HELLO: /proc for the command line, and
 * the modules for virtio and vsock. The rest comes while HELLO is on its way.
 *
 * A channel that the host closes before SETUP is opened again: so a template, frozen after
 * HELLO, says hello to each monitor that it is restored under. Once there is a box, a closed
 * channel means that nobody waits for it any more: the machine is powered off at once.
 *
 * If init cannot go on, it says so in one line on the console and powers off. It never ends.
 *
 * Kernel command line: hako.bench=1 prints "HAKO-READY boottime_ns=N" where the channel would be
 * opened, and powers off.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "modules.h"
#include "platform.h"
#include "say.h"

enum {
	DEVICE_WAIT_MS = 5000, /* for the vsock device to show up */
	KILL_WAIT_MS = 2000,   /* for processes to be gone */
};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now = {0};

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void sleep_ms(int ms)
{
	poll(NULL, 0, ms);
}

__attribute__((noreturn)) static void power_off(void)
{
	reboot(RB_POWER_OFF);
	/* A kernel that cannot power off: a monitor takes a reboot for the end as well. */
	hk_say("power off: %s", strerror(errno));
	reboot(RB_AUTOBOOT);
	for (;;) {
		pause();
	}
}

/* End all processes, write everything back, power off. */
__attribute__((noreturn)) static void shut_down(void)
{
	uint64_t deadline_ns = now_ns(CLOCK_MONOTONIC) + UINT64_C(1000000) * KILL_WAIT_MS;

	kill(-1, SIGKILL);
	while (now_ns(CLOCK_MONOTONIC) < deadline_ns) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0 && errno == ECHILD) {
			break;
		}
		if (pid == 0) {
			sleep_ms(1);
		}
	}
	sync();
	power_off();
}

static void mount_at(const char *type, const char *target)
{
	if (mkdir(target, 0755) < 0 && errno != EEXIST) {
		hk_say("'%s': mkdir: %s", target, strerror(errno));
	}
	if (mount(type, target, type, MS_NOSUID, NULL) < 0 && errno != EBUSY) {
		hk_say("'%s': mount: %s", target, strerror(errno));
	}
}

/* The kernel opens /dev/console for init if the initramfs has one. */
static bool has_console(void)
{
	return fcntl(STDERR_FILENO, F_GETFD) >= 0;
}

static void open_console(void)
{
	static const char *const names[] = {
		"/dev/console", "/dev/hvc0", "/dev/ttyS0", "/dev/kmsg", "/dev/null"};
	int fd = -1;

	for (size_t i = 0; fd < 0 && i < sizeof(names) / sizeof(names[0]); i++) {
		fd = open(names[i], O_RDWR | O_NOCTTY);
	}
	/* Descriptors 0 to 2 must be taken by something, or a socket would become stderr. */
	while (fd >= 0 && fd < 2) {
		fd = dup(fd);
	}
}

static bool on_command_line(const char *word)
{
	char text[4096];
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	size_t len = strlen(word);

	if (fd >= 0) {
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	for (char *at = text; (at = strstr(at, word)); at += len) {
		if ((at == text || at[-1] == ' ') && strchr(" \n", at[len])) {
			return true;
		}
	}
	return false;
}

static void tell_kernel(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0) {
		hk_say("'%s': %s", path, strerror(errno));
	}
	if (fd >= 0) {
		close(fd);
	}
}

/* What HELLO does not wait for. */
static void prepare_late(void)
{
	hk_modules_load();
	rmdir("/modules");
	unlink("/init");
	mount_at("devtmpfs", "/dev");
	tell_kernel("/proc/self/oom_score_adj", "-1000");
	/* Memory that is asked for may be never touched. If too much is, the OOM killer ends the
	 * command, and the monitor can say why: of a refused allocation it never hears. */
	tell_kernel("/proc/sys/vm/overcommit_memory", "1");
}

/* Return: an agent that has said hello, or NULL */
static struct hk_agent *say_hello(uint64_t boottime_ns, const char *release)
{
	const struct hk_msg_hello hello = {
		.version = HK_CONTROL_VERSION,
		.boottime_ns = boottime_ns,
		.agent_version = HAKO_VERSION,
		.kernel_release = release,
	};
	struct hk_agent *agent;
	int fd = hk_platform_dial(HK_CONTROL_PORT);
	int r;

	for (int ms = 0; fd == -ENODEV && ms < DEVICE_WAIT_MS; ms++) {
		sleep_ms(1);
		fd = hk_platform_dial(HK_CONTROL_PORT);
	}
	if (fd < 0) {
		hk_say("control channel: connect to the host: %s", strerror(-fd));
		return NULL;
	}
	agent = hk_agent_create(fd);
	if (!agent) {
		hk_say("agent: out of memory");
		return NULL;
	}
	r = hk_agent_hello(agent, &hello);
	if (r < 0) {
		hk_say("control channel: connect to the host: %s", strerror(-r));
		hk_agent_destroy(agent);
		return NULL;
	}
	return agent;
}

int main(void)
{
	enum hk_agent_end end = HK_AGENT_CLOSED;
	bool prepared = false;
	uint64_t boottime_ns;
	struct utsname name;

	if (getpid() != 1) {
		hk_say("this is the init of a Hako box; run 'hako run -- COMMAND' to get one");
		return 1;
	}
	if (!has_console()) {
		mount_at("devtmpfs", "/dev");
		open_console();
	}
	mount_at("proc", "/proc");
	hk_modules_load();
	uname(&name);
	boottime_ns = now_ns(CLOCK_BOOTTIME);
	if (on_command_line("hako.bench=1")) {
		char line[64];
		int len = snprintf(line, sizeof(line), "HAKO-READY boottime_ns=%llu\n",
			(unsigned long long)boottime_ns);

		if (write(STDOUT_FILENO, line, (size_t)len) < 0) {
			hk_say("console: %s", strerror(errno));
		}
		power_off();
	}
	while (end == HK_AGENT_CLOSED) {
		struct hk_agent *agent = say_hello(boottime_ns, name.release);

		if (!agent) {
			power_off();
		}
		if (!prepared) {
			prepare_late();
			prepared = true;
		}
		end = hk_agent_run(agent);
		if (end != HK_AGENT_CLOSED) {
			break;
		}
		hk_agent_destroy(agent);
	}
	if (end == HK_AGENT_LOST) {
		power_off();
	}
	shut_down();
}
