/* SPDX-License-Identifier: ISC */
/*
 * The glue between a virtio device and the machine: eventfds, doorbells, interrupts, the loop.
 * The machine and its engine are stand-ins, defined here in place of the real ones.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/util.h"
#include "machine/machine.h"
#include "virtio/mmio.h"
#include "virtio/mmio_regs.h"
#include "virtq_driver.h"

enum { SLOT_GPA = 0xd0000000, GSI = 7, MAX_DOORBELLS = 8 };

struct hk_engine {
	bool accelerated; /* has doorbells and irqfds */
	int irq_fd;
	unsigned pulses;
	bool level;
	bool slow;                    /* others come in between */
	int doorbells[MAX_DOORBELLS]; /* by value; -1: none */
};

/* Which call of a stand-in fails; counted down. */
enum call { CALL_SLOT, CALL_IRQFD, CALL_DOORBELL, CALL_BUS, CALL_COUNT };

struct hk_machine {
	struct hk_engine engine;
	struct hk_mem mem;
	struct hk_bus bus;
	struct hk_region *region;
	struct hk_loop *loop;
	unsigned fail_in[CALL_COUNT]; /* 0: never */
};

static struct hk_machine *the_machine;

static bool fails(enum call call)
{
	return the_machine->fail_in[call] != 0 && --the_machine->fail_in[call] == 0;
}

int hk_machine_slot(struct hk_machine *machine, struct hk_slot *ret_slot, struct hk_err *err)
{
	if (fails(CALL_SLOT)) {
		return hk_fail_msg(err, ENOSPC, "no slot");
	}
	*ret_slot = (struct hk_slot){.gpa = SLOT_GPA, .len_bytes = HK_SLOT_SIZE, .gsi = GSI};
	return 0;
}

struct hk_bus *hk_machine_bus(struct hk_machine *machine)
{
	return &machine->bus;
}

struct hk_mem *hk_machine_mem(struct hk_machine *machine)
{
	return &machine->mem;
}

struct hk_loop *hk_machine_loop(struct hk_machine *machine)
{
	return machine->loop;
}

struct hk_engine *hk_machine_engine(struct hk_machine *machine)
{
	return &machine->engine;
}

int hk_bus_add(struct hk_bus *bus, struct hk_region *region, struct hk_err *err)
{
	if (fails(CALL_BUS)) {
		return hk_fail_msg(err, EEXIST, "overlap");
	}
	assert_int_equal(region->space, HK_SPACE_MMIO);
	assert_int_equal(region->base, SLOT_GPA);
	assert_int_equal(region->size, HK_SLOT_SIZE);
	hk_container_of(bus, struct hk_machine, bus)->region = region;
	return 0;
}

int hk_engine_irq(struct hk_engine *engine, unsigned gsi, bool level)
{
	assert_int_equal(gsi, GSI);
	engine->pulses += level && !engine->level;
	engine->level = level;
	if (engine->slow) {
		sched_yield();
	}
	return 0;
}

int hk_engine_irqfd(struct hk_engine *engine, unsigned gsi, int event_fd, bool add)
{
	assert_int_equal(gsi, GSI);
	if (!engine->accelerated) {
		return -ENOTSUP;
	}
	if (add && fails(CALL_IRQFD)) {
		return -EMFILE;
	}
	assert_int_equal(engine->irq_fd, add ? -1 : event_fd);
	engine->irq_fd = add ? event_fd : -1;
	return 0;
}

int hk_engine_doorbell(struct hk_engine *engine, hk_gpa gpa, uint32_t value, int event_fd, bool add)
{
	assert_int_equal(gpa, SLOT_GPA + 0x50);
	assert_true(value < MAX_DOORBELLS);
	if (!engine->accelerated) {
		return -ENOTSUP;
	}
	if (add && fails(CALL_DOORBELL)) {
		return -ENOMEM;
	}
	assert_int_equal(engine->doorbells[value], add ? -1 : event_fd);
	engine->doorbells[value] = add ? event_fd : -1;
	return 0;
}

/* A device of two queues that counts; chains go back filled as they are. */
struct mock {
	struct hk_virtio dev;
	unsigned kicks[2];
	unsigned quiesced, resumed, resets;
};

static struct mock *from_dev(struct hk_virtio *dev)
{
	return hk_container_of(dev, struct mock, dev);
}

static int mock_activate(struct hk_virtio *dev)
{
	return 0;
}

static uint32_t echo(struct hk_virtio *dev, unsigned index, const struct hk_chain *chain)
{
	return chain->writable_bytes;
}

static void mock_kick(struct hk_virtio *dev, unsigned index)
{
	from_dev(dev)->kicks[index]++;
	hk_virtio_serve(dev, index, echo);
}

static void mock_reset(struct hk_virtio *dev)
{
	from_dev(dev)->resets++;
}

static void mock_quiesce(struct hk_virtio *dev)
{
	from_dev(dev)->quiesced++;
}

static void mock_resume(struct hk_virtio *dev)
{
	from_dev(dev)->resumed++;
}

static void mock_save(struct hk_virtio *dev, struct hk_writer *w)
{
}

static void mock_restore(struct hk_virtio *dev, struct hk_reader *r)
{
}

static void mock_destroy(struct hk_virtio *dev)
{
}

static const struct hk_virtio_ops mock_ops = {
	.name = "mock",
	.type = HK_VIRTIO_SND,
	.activate = mock_activate,
	.kick = mock_kick,
	.reset = mock_reset,
	.quiesce = mock_quiesce,
	.resume = mock_resume,
	.save = mock_save,
	.restore = mock_restore,
	.destroy = mock_destroy,
};

struct fixture {
	struct hk_machine machine;
	struct mock mock;
	struct hk_virtio_mmio *mmio;
	struct vqd queues[2];
	hk_gpa data;
	bool early; /* add and notify before DRIVER_OK */
};

static void mock_init(struct mock *mock)
{
	static const uint16_t sizes[2] = {8, 8};

	*mock = (struct mock){0};
	hk_virtio_init(&mock->dev, &mock_ops, 2, sizes);
}

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	the_machine = &f->machine;
	f->machine.engine = (struct hk_engine){.accelerated = true, .irq_fd = -1};
	memset(f->machine.engine.doorbells, 0xff, sizeof(f->machine.engine.doorbells));
	assert_int_equal(hk_mem_create(&f->machine.mem, 32 * HK_MIB, NULL), 0);
	assert_int_equal(hk_loop_create(&f->machine.loop, NULL), 0);
	mock_init(&f->mock);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	hk_virtio_mmio_destroy(f->mmio);
	assert_int_equal(f->machine.engine.irq_fd, -1);
	for (unsigned i = 0; i < MAX_DOORBELLS; i++) {
		assert_int_equal(f->machine.engine.doorbells[i], -1);
	}
	hk_virtio_destroy(&f->mock.dev);
	hk_loop_destroy(f->machine.loop);
	hk_mem_finish(&f->machine.mem);
	test_free(f);
	return 0;
}

static void poke(struct fixture *f, unsigned reg, uint32_t value)
{
	f->machine.region->ops->write(f->machine.region, reg, 4, value);
}

static uint32_t peek(struct fixture *f, unsigned reg)
{
	return (uint32_t)f->machine.region->ops->read(f->machine.region, reg, 4);
}

static void attach(struct fixture *f)
{
	assert_int_equal(hk_virtio_mmio_attach(&f->machine, &f->mock.dev, &f->mmio, NULL), 0);
}

static void turn_loop(struct fixture *f)
{
	assert_int_equal(hk_loop_run_once(f->machine.loop, 0), 0);
}

static void drive(struct fixture *f)
{
	hk_gpa gpa = HK_MIB;

	poke(f, HK_MMIO_STATUS, 3);
	poke(f, HK_MMIO_DRIVER_FEATURES_SEL, 1);
	poke(f, HK_MMIO_DRIVER_FEATURES, 1);
	poke(f, HK_MMIO_STATUS, 11);
	for (uint32_t i = 0; i < 2; i++) {
		struct vqd *d = &f->queues[i];

		gpa = vqd_init(d, &f->machine.mem, gpa, 8);
		poke(f, HK_MMIO_QUEUE_SEL, i);
		poke(f, HK_MMIO_QUEUE_NUM, 8);
		poke(f, HK_MMIO_QUEUE_DESC_LOW, (uint32_t)d->desc_gpa);
		poke(f, HK_MMIO_QUEUE_DRIVER_LOW, (uint32_t)d->avail_gpa);
		poke(f, HK_MMIO_QUEUE_DEVICE_LOW, (uint32_t)d->used_gpa);
		poke(f, HK_MMIO_QUEUE_READY, 1);
	}
	f->data = gpa;
	if (f->early) {
		assert_true(vqd_add(&f->queues[0], (struct vqd_buf[]){{gpa, 8, true}}, 1, 0) >= 0);
		poke(f, HK_MMIO_QUEUE_NOTIFY, 0);
		turn_loop(f);
		assert_int_equal(f->mock.kicks[0], 0);
	}
	poke(f, HK_MMIO_STATUS, 15);
	assert_int_equal(peek(f, HK_MMIO_STATUS), 15);
}

/* Past the first look at each queue, which follows DRIVER_OK. */
static void drive_and_settle(struct fixture *f)
{
	drive(f);
	turn_loop(f);
	f->mock.kicks[0] = f->mock.kicks[1] = 0;
}

static void add_buffer(struct fixture *f, unsigned queue)
{
	assert_true(vqd_add(&f->queues[queue], (struct vqd_buf[]){{f->data, 8, true}}, 1, 0) >= 0);
}

static bool readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void drain(int fd)
{
	eventfd_t count;

	(void)eventfd_read(fd, &count);
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir) != NULL) {
		count++;
	}
	closedir(dir);
	return count;
}

static void test_accelerated(void **state)
{
	struct fixture *f = *state;
	struct hk_engine *engine = &f->machine.engine;
	struct vqd_used used;

	attach(f);
	drive_and_settle(f);
	assert_true(engine->irq_fd >= 0);
	add_buffer(f, 1);
	eventfd_write(engine->doorbells[1], 1); /* as the engine does it */
	assert_int_equal(f->mock.kicks[1], 0);
	turn_loop(f);
	assert_int_equal(f->mock.kicks[1], 1);
	assert_int_equal(f->mock.kicks[0], 0);
	assert_true(vqd_take(&f->queues[1], &used));
	assert_true(readable(engine->irq_fd));
	assert_int_equal(engine->pulses, 0);
	assert_int_equal(peek(f, HK_MMIO_INTERRUPT_STATUS), HK_MMIO_ISR_USED);
	assert_false(readable(engine->doorbells[1]));
}

/* Linux's balloon does so. */
static void test_notified_too_early(void **state)
{
	struct fixture *f = *state;
	struct vqd_used used;

	attach(f);
	f->early = true;
	drive(f);
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 1);
	assert_true(vqd_take(&f->queues[0], &used));
}

static void test_plain(void **state)
{
	struct fixture *f = *state;

	f->machine.engine.accelerated = false;
	attach(f);
	drive_and_settle(f);
	add_buffer(f, 0);
	poke(f, HK_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(f->mock.kicks[0], 0); /* not on the vCPU's thread */
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 1);
	assert_int_equal(f->machine.engine.pulses, 1);
	assert_false(f->machine.engine.level);
	poke(f, HK_MMIO_QUEUE_NOTIFY, 2); /* no such queue */
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 1);
}

enum { PULSES = 2000 };

static void *raise_often(void *arg)
{
	struct fixture *f = arg;
	struct hk_virtio_transport *transport = f->mock.dev.transport;

	for (unsigned i = 0; i < PULSES; i++) {
		transport->ops->interrupt(transport, false);
	}
	return NULL;
}

/* An edge that comes while the line is high is none: then the driver would wait for ever. */
static void test_pulses_of_threads(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[3];

	f->machine.engine.accelerated = false;
	f->machine.engine.slow = true;
	attach(f);
	drive_and_settle(f);
	for (size_t i = 0; i < HK_ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, raise_often, f), 0);
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(f->machine.engine.pulses, HK_ARRAY_SIZE(threads) * PULSES);
}

static void test_synchronous(void **state)
{
	struct fixture *f = *state;

	f->mock.dev.queues[1].synchronous = true;
	attach(f);
	drive_and_settle(f);
	assert_true(f->machine.engine.doorbells[0] >= 0);
	assert_int_equal(f->machine.engine.doorbells[1], -1);
	add_buffer(f, 1);
	poke(f, HK_MMIO_QUEUE_NOTIFY, 1);
	assert_int_equal(f->mock.kicks[1], 1);
	assert_true(readable(f->machine.engine.irq_fd));
}

static void test_own_threads(void **state)
{
	struct fixture *f = *state;
	int kick_fd;

	f->mock.dev.flags = HK_VIRTIO_OWN_THREADS;
	attach(f);
	drive(f);
	kick_fd = f->mock.dev.queues[0].kick_fd;
	assert_true(readable(kick_fd));
	drain(kick_fd);
	eventfd_write(f->machine.engine.doorbells[0], 1);
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 0);
	assert_true(readable(kick_fd)); /* left to the device */
	drain(kick_fd);
	hk_virtio_mmio_quiesce(f->mmio);
	hk_virtio_mmio_resume(f->mmio);
	assert_true(readable(kick_fd));
}

static void test_notify_self(void **state)
{
	struct fixture *f = *state;

	attach(f);
	drive_and_settle(f);
	for (unsigned i = 0; i < 8; i++) {
		add_buffer(f, 0);
	}
	poke(f, HK_MMIO_QUEUE_NOTIFY, 0);
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 1); /* a queue's length, and then others' turn */
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 2);
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 2);
}

static void test_quiesce(void **state)
{
	struct fixture *f = *state;

	attach(f);
	hk_virtio_mmio_quiesce(f->mmio); /* not active: nothing to rest, or to wake */
	hk_virtio_mmio_resume(f->mmio);
	assert_int_equal(f->mock.quiesced + f->mock.resumed, 0);
	drive_and_settle(f);

	hk_virtio_mmio_quiesce(f->mmio);
	assert_int_equal(f->mock.quiesced, 1);
	add_buffer(f, 0);
	poke(f, HK_MMIO_QUEUE_NOTIFY, 0);
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 0);
	assert_false(readable(f->mock.dev.queues[0].kick_fd)); /* the loop must not spin on it */
	assert_false(readable(f->machine.engine.irq_fd));
	hk_virtio_mmio_resume(f->mmio);
	assert_int_equal(f->mock.resumed, 1);
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 1);
	assert_true(readable(f->machine.engine.irq_fd));

	/* The driver has not acknowledged: it is told again. */
	drain(f->machine.engine.irq_fd);
	hk_virtio_mmio_quiesce(f->mmio);
	hk_virtio_mmio_resume(f->mmio);
	assert_true(readable(f->machine.engine.irq_fd));
}

static void test_save_and_restore(void **state)
{
	struct fixture *f = *state;
	struct hk_writer w = {0};
	struct hk_reader r;
	struct vqd_used used;

	attach(f);
	drive(f);
	add_buffer(f, 1);
	poke(f, HK_MMIO_QUEUE_NOTIFY, 1); /* in the eventfd, which is not saved */
	hk_virtio_mmio_quiesce(f->mmio);
	hk_virtio_mmio_save(f->mmio, &w);
	assert_int_equal(w.error, 0);
	hk_virtio_mmio_destroy(f->mmio);
	hk_virtio_destroy(&f->mock.dev);

	mock_init(&f->mock);
	attach(f);
	hk_reader_init(&r, w.data, w.len);
	hk_virtio_mmio_restore(f->mmio, &r);
	assert_int_equal(hk_reader_status(&r, NULL), 0);
	turn_loop(f);
	assert_int_equal(f->mock.resumed, 0);
	hk_virtio_mmio_resume(f->mmio);
	assert_int_equal(f->mock.resumed, 1);
	turn_loop(f);
	assert_true(vqd_take(&f->queues[1], &used));
	assert_int_equal(peek(f, HK_MMIO_STATUS), 15);
	hk_writer_finish(&w);
}

static void test_destroy(void **state)
{
	struct fixture *f = *state;
	unsigned before = open_fds();

	hk_virtio_mmio_destroy(NULL);
	attach(f);
	assert_int_equal(open_fds(), before + 3); /* two queues and the interrupt */
	drive(f);
	eventfd_write(f->mock.dev.queues[0].kick_fd, 1);
	hk_virtio_mmio_destroy(f->mmio);
	f->mmio = NULL;
	assert_int_equal(f->mock.resets, 1);
	assert_null(f->mock.dev.transport);
	assert_null(f->mock.dev.mem);
	assert_int_equal(open_fds(), before);
	turn_loop(f);
	assert_int_equal(f->mock.kicks[0], 0);
	hk_virtio_fail(&f->mock.dev, "test"); /* to nobody */
	hk_virtio_config_changed(&f->mock.dev);
}

/* Each step fails once: nothing is left behind, and the next try succeeds. */
static void test_attach_fails(void **state)
{
	struct fixture *f = *state;
	static const struct {
		enum call call;
		unsigned nth;
		int rc;
		const char *text;
	} cases[] = {
		{CALL_SLOT, 1, -ENOSPC, "virtio mock: no slot"},
		{CALL_IRQFD, 1, -EMFILE, "virtio mock: interrupt 7: Too many open files"},
		{CALL_DOORBELL, 1, -ENOMEM,
			"virtio mock: doorbell of queue 0: Cannot allocate memory"},
		{CALL_DOORBELL, 2, -ENOMEM,
			"virtio mock: doorbell of queue 1: Cannot allocate memory"},
		{CALL_BUS, 1, -EEXIST, "virtio mock: overlap"},
	};
	unsigned before = open_fds();
	struct hk_err err;

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		err = HK_ERR_INIT;
		f->machine.fail_in[cases[i].call] = cases[i].nth;
		assert_int_equal(hk_virtio_mmio_attach(&f->machine, &f->mock.dev, &f->mmio, &err),
			cases[i].rc);
		assert_string_equal(hk_err_text(&err), cases[i].text);
		assert_null(f->mmio);
		assert_null(f->mock.dev.transport);
		assert_int_equal(open_fds(), before);
	}
	err = HK_ERR_INIT;
	hk_fault_arm(HK_FAULT_ALLOC, 1);
	assert_int_equal(hk_virtio_mmio_attach(&f->machine, &f->mock.dev, &f->mmio, &err), -ENOMEM);
	hk_fault_arm(0, 0);
	attach(f);
	drive(f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(accelerated),
		TEST(notified_too_early),
		TEST(plain),
		TEST(pulses_of_threads),
		TEST(synchronous),
		TEST(own_threads),
		TEST(notify_self),
		TEST(quiesce),
		TEST(save_and_restore),
		TEST(destroy),
		TEST(attach_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
