/* SPDX-License-Identifier: ISC */
/*
 * Machine: the parts put together, and their state as one snapshot. The vCPU threads
 * are run.c's. See machine.h for the life of a machine.
 */
#include "machine/machine.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "engine/msr.h"
#include "machine/acpi.h"
#include "machine/boot.h"
#include "machine/layout.h"
#include "machine/machine_impl.h"

enum {
	MACHINE_VERSION = 2,
	CPU_FEATURES_SINCE = 2, /* before that there were none */
};

/* --- platform devices ------------------------------------------------------ */

static void serial_output(struct hk_serial_owner *owner, uint8_t byte)
{
	struct hk_machine *m = hk_container_of(owner, struct hk_machine, serial_owner);

	if (m->config.owner != NULL && m->config.owner->serial != NULL) {
		m->config.owner->serial(m->config.owner, &byte, 1);
	}
}

static void serial_interrupt(struct hk_serial_owner *owner, bool level)
{
	struct hk_machine *m = hk_container_of(owner, struct hk_machine, serial_owner);

	hk_engine_irq(m->engine, HK_SERIAL_GSI, level);
}

static void power_off(struct hk_power_owner *owner)
{
	hk_machine_end(hk_container_of(owner, struct hk_machine, power_owner), HK_STOP_POWER_OFF);
}

static void power_reset(struct hk_power_owner *owner)
{
	hk_machine_end(hk_container_of(owner, struct hk_machine, power_owner), HK_STOP_RESET);
}

/* --- memory --------------------------------------------------------------- */

static void mem_written(struct hk_mem_watcher *watcher, hk_gpa gpa, uint64_t len)
{
	hk_engine_written(hk_container_of(watcher, struct hk_machine, watcher)->engine, gpa, len);
}

/* --- creation -------------------------------------------------------------- */

static int create_parts(struct hk_machine *m, struct hk_err *err)
{
	int r;

	hk_bus_init(&m->bus);
	m->serial_owner = (struct hk_serial_owner){serial_output, serial_interrupt};
	hk_serial_init(&m->serial, &m->serial_owner);
	m->power_owner = (struct hk_power_owner){power_off, power_reset};
	hk_power_init(&m->power, &m->power_owner);
	hk_run_init(&m->run, m);
	if ((r = hk_bus_add(&m->bus, &m->serial.region, err)) < 0 ||
		(r = hk_bus_add(&m->bus, &m->power.region, err)) < 0) {
		return r;
	}
	if ((r = hk_mem_create(&m->mem, m->config.ram_bytes, err)) < 0) {
		return r;
	}

	struct hk_engine_config config = {
		.mem = &m->mem,
		.client = &m->bus.client,
		.cpu = m->config.cpu,
		.vcpu_count = m->config.vcpu_count,
	};

	r = hk_engine_create(m->config.engine, &config, &m->engine, err);
	if (r == 0 && hk_engine_watches_memory(m->engine)) {
		m->watcher.written = mem_written;
		m->mem.watcher = &m->watcher;
	}
	return r;
}

int hk_machine_create(
	const struct hk_machine_config *config, struct hk_machine **ret_machine, struct hk_err *err)
{
	struct hk_machine *m;

	assert(config->vcpu_count >= 1 && config->vcpu_count <= HK_MAX_VCPUS);
	if (hk_new(m) == NULL) {
		return hk_fail(err, ENOMEM, "machine");
	}
	m->config = *config;
	m->mem.fd = -1;

	int r = create_parts(m, err);

	if (r < 0) {
		hk_machine_destroy(m);
		return r;
	}
	*ret_machine = m;
	return 0;
}

void hk_machine_halt(struct hk_machine *m)
{
	hk_machine_stop(m);
	hk_run_finish(&m->run);
}

void hk_machine_destroy(struct hk_machine *m)
{
	if (m == NULL) {
		return;
	}
	hk_machine_halt(m);
	m->mem.watcher = NULL;
	hk_engine_destroy(m->engine);
	hk_serial_finish(&m->serial);
	hk_mem_finish(&m->mem);
	free(m);
}

int hk_machine_add_window(struct hk_machine *m, uint64_t len_bytes,
	const struct hk_mem_region **ret_region, struct hk_err *err)
{
	const struct hk_mem_region *region;
	int r = hk_mem_add_window(&m->mem, len_bytes, &region, err);

	if (r < 0 || (r = hk_engine_map(m->engine, region, err)) < 0) {
		return r;
	}
	*ret_region = region;
	return 0;
}

int hk_machine_slot(struct hk_machine *m, struct hk_slot *ret_slot, struct hk_err *err)
{
	unsigned index = m->slot_count;

	static_assert(
		HK_FIRST_SLOT_GSI + HK_MAX_SLOTS <= HK_GSI_COUNT, "an IOAPIC pin for each slot");
	if (index == HK_MAX_SLOTS) {
		return hk_fail_msg(err, ENOSPC, "more than %d devices", HK_MAX_SLOTS);
	}
	m->slots[index] = (struct hk_slot){
		.gpa = HK_SLOTS_GPA + (uint64_t)index * HK_SLOT_SIZE,
		.len_bytes = HK_SLOT_SIZE,
		.gsi = HK_FIRST_SLOT_GSI + index,
	};
	m->slot_count++;
	*ret_slot = m->slots[index];
	return 0;
}

struct hk_bus *hk_machine_bus(struct hk_machine *m)
{
	return &m->bus;
}

struct hk_mem *hk_machine_mem(struct hk_machine *m)
{
	return &m->mem;
}

struct hk_loop *hk_machine_loop(struct hk_machine *m)
{
	return m->config.loop;
}

struct hk_engine *hk_machine_engine(struct hk_machine *m)
{
	return m->engine;
}

/* --- boot ------------------------------------------------------------------ */

static void set_msr(struct hk_vcpu_state *state, uint32_t index, uint64_t value)
{
	for (unsigned i = 0; i < state->msr_count; i++) {
		if (state->msrs[i].index == index) {
			state->msrs[i].value = value;
			return;
		}
	}
	assert(state->msr_count < HK_MAX_MSRS);
	state->msrs[state->msr_count++] = (struct hk_msr){index, value};
}

/*
 * What firmware would have left behind: write-back memory by default, fast string moves, floating
 * point as FNINIT leaves it, XCR0 with all that the model has. The last also spares the guest a
 * fault of the SVM that QEMU emulates: it lets XSETBV pass unseen by KVM, which then goes on
 * loading what it knows.
 */
static void set_firmware_state(struct hk_vcpu_state *state, const struct hk_cpu_model *cpu)
{
	/* In the XSAVE image; XSTATE_BV of 0 says that all else is as initialized. */
	enum { FCW_OFFSET = 0, MXCSR_OFFSET = 24 };
	static const uint16_t fcw = 0x37f;
	static const uint32_t mxcsr = 0x1f80;

	memset(state->xsave, 0, sizeof(state->xsave));
	memcpy(state->xsave + FCW_OFFSET, &fcw, sizeof(fcw));
	memcpy(state->xsave + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	if (cpu->base == HK_CPU_HAKO_V2) {
		state->xcr0 = HK_CPU_HAKO_V2_XCR0;
	}
	set_msr(state, HK_MSR_MTRR_DEF_TYPE, HK_MTRR_DEF_TYPE_ENABLED_WB);
	set_msr(state, HK_MSR_MISC_ENABLE, HK_MISC_ENABLE_FAST_STRINGS);
}

static int init_vcpu(struct hk_machine *m, unsigned index, const struct hk_boot *boot, hk_gpa rsdp,
	struct hk_err *err)
{
	autofree struct hk_vcpu_state *state = hk_malloc(sizeof(*state));

	if (state == NULL) {
		return hk_fail(err, ENOMEM, "vCPU state");
	}

	struct hk_vcpu *vcpu = hk_engine_vcpu(m->engine, index);
	int r = hk_vcpu_get_state(vcpu, state, err);

	if (r < 0) {
		return r;
	}
	set_firmware_state(state, &m->config.cpu);
	if (index == 0) {
		state->mp_state = HK_MP_RUNNING;
		r = hk_boot_load(&m->mem, boot, rsdp, state, err);
		if (r < 0) {
			return r;
		}
	}
	return hk_vcpu_set_state(vcpu, state, err);
}

int hk_machine_load(struct hk_machine *m, const struct hk_boot *boot, struct hk_err *err)
{
	uint8_t generation[16];
	hk_gpa rsdp;

	if (getrandom(generation, sizeof(generation), 0) != (ssize_t)sizeof(generation)) {
		return hk_fail(err, errno, "getrandom");
	}
	hk_mem_write(&m->mem, HK_GENERATION_GPA, generation, sizeof(generation));

	int r = hk_acpi_build(&m->mem, m->config.vcpu_count, m->slots, m->slot_count, &rsdp, err);

	for (unsigned i = 0; r == 0 && i < m->config.vcpu_count; i++) {
		r = init_vcpu(m, i, boot, rsdp, err);
	}
	return r;
}

/* --- save and restore ------------------------------------------------------- */

static int save_engine(struct hk_machine *m, struct hk_writer *w, struct hk_err *err)
{
	autofree struct hk_vcpu_state *vcpu = hk_malloc(sizeof(*vcpu));
	struct hk_irqchip_state irqchip;
	struct hk_clock_state clock;
	int r;

	if (vcpu == NULL) {
		return hk_fail(err, ENOMEM, "vCPU state");
	}
	/* The clock first: what the rest takes is not to pass for the guest. */
	if ((r = hk_engine_get_clock(m->engine, &clock, err)) < 0 ||
		(r = hk_engine_get_irqchip(m->engine, &irqchip, err)) < 0) {
		return r;
	}
	hk_clock_state_save(&clock, w);
	hk_irqchip_state_save(&irqchip, w);
	for (unsigned i = 0; i < m->config.vcpu_count; i++) {
		r = hk_vcpu_get_state(hk_engine_vcpu(m->engine, i), vcpu, err);
		if (r < 0) {
			return r;
		}
		hk_vcpu_state_save(vcpu, w);
	}
	return 0;
}

int hk_machine_save(struct hk_machine *m, struct hk_writer *w, struct hk_err *err)
{
	size_t mark = hk_writer_begin(w, "machine", MACHINE_VERSION);

	hk_write_u32(w, m->config.vcpu_count);
	hk_write_u64(w, m->config.ram_bytes);
	hk_write_u32(w, m->slot_count);
	hk_write_u8(w, (uint8_t)m->config.cpu.base);
	hk_write_u32(w, m->config.cpu.features);

	int r = save_engine(m, w, err);

	if (r < 0) {
		return r;
	}
	hk_serial_save(&m->serial, w);
	hk_writer_end(w, mark);
	return w->error == 0 ? 0 : hk_fail(err, -w->error, "save machine");
}

/* The stream must be of a machine with this one's configuration. */
static int check_same(
	struct hk_machine *m, struct hk_reader *r, uint32_t version, struct hk_err *err)
{
	uint32_t vcpu_count = hk_read_u32(r);
	uint64_t ram_bytes = hk_read_u64(r);
	uint32_t slot_count = hk_read_u32(r);
	uint8_t cpu_base = hk_read_u8(r);
	uint32_t cpu_features = version >= CPU_FEATURES_SINCE ? hk_read_u32(r) : 0;
	int error = hk_reader_status(r, err);

	if (error < 0) {
		return error;
	}
	if (vcpu_count != m->config.vcpu_count || ram_bytes != m->config.ram_bytes ||
		slot_count != m->slot_count || cpu_base != (uint8_t)m->config.cpu.base) {
		return hk_fail_msg(err, EINVAL,
			"snapshot of another machine: %u CPUs, %llu MiB, %u devices", vcpu_count,
			(unsigned long long)(ram_bytes / HK_MIB), slot_count);
	}
	if (cpu_features != m->config.cpu.features) {
		return hk_fail_msg(err, EINVAL,
			"snapshot of another machine: its CPUs have other features (0x%x, not "
			"0x%x)",
			cpu_features, m->config.cpu.features);
	}
	return 0;
}

static int restore_engine(struct hk_machine *m, struct hk_reader *r, struct hk_err *err)
{
	autofree struct hk_vcpu_state *vcpu = hk_malloc(sizeof(*vcpu));
	struct hk_irqchip_state irqchip;
	struct hk_clock_state clock;
	int error;

	if (vcpu == NULL) {
		return hk_fail(err, ENOMEM, "vCPU state");
	}
	hk_clock_state_restore(&clock, r);
	hk_irqchip_state_restore(&irqchip, r);
	/* The clock first: an MSR of the vCPUs' has the wall clock written, which is taken from it.
	 */
	if ((error = hk_reader_status(r, err)) < 0 ||
		(error = hk_engine_set_clock(m->engine, &clock, err)) < 0) {
		return error;
	}
	for (unsigned i = 0; i < m->config.vcpu_count; i++) {
		hk_vcpu_state_restore(vcpu, r);
		if ((error = hk_reader_status(r, err)) < 0 ||
			(error = hk_vcpu_set_state(hk_engine_vcpu(m->engine, i), vcpu, err)) < 0) {
			return error;
		}
	}
	return hk_engine_set_irqchip(m->engine, &irqchip, err);
}

int hk_machine_restore(struct hk_machine *m, struct hk_reader *r, struct hk_err *err)
{
	struct hk_section section = hk_reader_begin(r, "machine", MACHINE_VERSION);
	int error;

	if ((error = check_same(m, r, section.version, err)) < 0 ||
		(error = restore_engine(m, r, err)) < 0) {
		return error;
	}
	hk_serial_restore(&m->serial, r);
	hk_reader_end(r, section);
	return hk_reader_status(r, err);
}

void hk_machine_new_generation(struct hk_machine *m, const uint8_t id[16])
{
	hk_mem_write(&m->mem, HK_GENERATION_GPA, id, 16);
	hk_engine_irq(m->engine, HK_GENERATION_GSI, true);
	hk_engine_irq(m->engine, HK_GENERATION_GSI, false);
}
