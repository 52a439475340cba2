/* SPDX-License-Identifier: ISC */
/* The software CPU in a small machine: soft_vm.h tells. */
#include "soft_vm.h"

struct soft_vm vm;

/* ---- The world around the CPU ---- */

static void bus_port(struct hk_cpu *cpu, uint16_t port, void *data, unsigned len, bool write)
{
	(void)cpu;
	vm.port = port;
	if (write) {
		vm.port_value = 0;
		memcpy(&vm.port_value, data, len);
	} else {
		memcpy(data, &vm.port_value, len);
	}
}

static void bus_mmio(struct hk_cpu *cpu, hk_gpa gpa, void *data, unsigned len, bool write)
{
	(void)cpu;
	(void)gpa;
	if (!write) {
		memset(data, 0xff, len);
	}
}

static uint64_t bus_tsc(struct hk_cpu *cpu)
{
	(void)cpu;
	return UINT64_C(0x1122334455667788);
}

static bool bus_rdmsr(struct hk_cpu *cpu, uint32_t index, uint64_t *ret_value)
{
	(void)cpu;
	*ret_value = index;
	return index == HK_MSR_TSC;
}

static bool bus_wrmsr(struct hk_cpu *cpu, uint32_t index, uint64_t value)
{
	(void)cpu;
	(void)value;
	return index == HK_MSR_TSC;
}

static uint8_t bus_get_cr8(struct hk_cpu *cpu)
{
	(void)cpu;
	return vm.cr8;
}

static void bus_set_cr8(struct hk_cpu *cpu, uint8_t value)
{
	(void)cpu;
	vm.cr8 = value;
}

static int bus_interrupt(struct hk_cpu *cpu)
{
	(void)cpu;
	return -1;
}

static void bus_random(struct hk_cpu *cpu, void *buf, size_t len_bytes)
{
	(void)cpu;
	memset(buf, 4, len_bytes);
}

static void bus_hypercall(struct hk_cpu *cpu)
{
	vm.hypercalls++;
	cpu->gpr[HK_RAX] = 0;
}

static void bus_nothing(struct hk_cpu *cpu)
{
	(void)cpu;
}

static void bus_protect(struct hk_cpu *cpu, hk_gpa page, uint32_t cpu_mask)
{
	(void)cpu;
	(void)page;
	(void)cpu_mask;
}

static void bus_drop(struct hk_cpu *cpu, hk_gpa gpa, unsigned len, uint32_t cpu_mask)
{
	(void)cpu;
	(void)gpa;
	(void)len;
	(void)cpu_mask;
}

static const struct hk_cpu_bus_ops bus = {
	.port = bus_port,
	.mmio = bus_mmio,
	.tsc = bus_tsc,
	.rdmsr = bus_rdmsr,
	.wrmsr = bus_wrmsr,
	.get_cr8 = bus_get_cr8,
	.set_cr8 = bus_set_cr8,
	.interrupt = bus_interrupt,
	.random = bus_random,
	.hypercall = bus_hypercall,
	.yield = bus_nothing,
	.work = bus_nothing,
	.exclusive_begin = bus_nothing,
	.exclusive_end = bus_nothing,
	.protect_page = bus_protect,
	.drop_code = bus_drop,
};

/* ---- Memory and modes ---- */

void vm_poke(uint64_t gpa, uint64_t value, unsigned len)
{
	assert_int_equal(hk_mem_write(&vm.mem, gpa, &value, len), 0);
}

uint64_t vm_peek(uint64_t gpa, unsigned len)
{
	uint64_t value = 0;

	assert_int_equal(hk_mem_read(&vm.mem, gpa, &value, len), 0);
	return value;
}

void vm_set_descriptor(unsigned selector, uint64_t descriptor)
{
	vm_poke(GDT + (selector & 0xfff8), descriptor, 8);
}

static void make_gdt(void)
{
	vm_set_descriptor(KERNEL_CODE, FLAT(0x9a, FLAG_L | FLAG_G));
	vm_set_descriptor(KERNEL_DATA, FLAT(0x92, FLAG_D | FLAG_G));
	vm_set_descriptor(USER_CODE_32, FLAT(0xfa, FLAG_D | FLAG_G));
	vm_set_descriptor(USER_DATA, FLAT(0xf2, FLAG_D | FLAG_G));
	vm_set_descriptor(USER_CODE, FLAT(0xfa, FLAG_L | FLAG_G));
	vm_set_descriptor(TASK, 0x67 | (uint64_t)TSS << 16 | UINT64_C(0x89) << 40);
	vm_set_descriptor(TASK + 8, 0);
	vm_set_descriptor(TABLE, 0xf | (uint64_t)LDT << 16 | UINT64_C(0x82) << 40);
	vm_set_descriptor(TABLE + 8, 0);
	vm_set_descriptor(KERNEL_CODE_32, FLAT(0x9a, FLAG_D | FLAG_G));
	vm_set_descriptor(CONFORMING, FLAT(0x9e, FLAG_L | FLAG_G));
	vm_set_descriptor(ABSENT_DATA, FLAT(0x12, FLAG_D | FLAG_G));
	vm_set_descriptor(READ_ONLY, FLAT(0xf0, FLAG_D | FLAG_G));
	vm_set_descriptor(EXECUTE_ONLY, FLAT(0x98, FLAG_D | FLAG_G));
	vm_set_descriptor(CODE_16, 0xffff | UINT64_C(0x9a) << 40);
	vm_set_descriptor(DOWN, UINT64_C(0x96) << 40 | (uint64_t)(FLAG_D | FLAG_G) << 32);
	vm_set_descriptor(ABSENT_CODE, FLAT(0x1a, FLAG_L | FLAG_G));
	vm_set_descriptor(USER_ABSENT, FLAT(0x72, FLAG_D | FLAG_G));
	vm_poke(LDT + 8, FLAT(0x92, FLAG_D | FLAG_G), 8);
	vm.cpu.gdt = (struct hk_table_reg){.base = GDT, .limit = GDT_LIMIT};
}

/* @access: P, DPL and type; @ist only in long mode */
void vm_set_gate(unsigned vector, unsigned selector, uint64_t offset, unsigned access, unsigned ist)
{
	uint64_t low = (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
		(uint64_t)access << 40 | (offset & 0xffff0000) << 32;

	if ((vm.cpu.efer & HK_EFER_LMA) != 0) {
		vm_poke(IDT + vector * 16, low, 8);
		vm_poke(IDT + vector * 16 + 8, offset >> 32, 8);
	} else {
		vm_poke(IDT + vector * 8, low, 8);
	}
}

static void start_common(unsigned code, unsigned data, unsigned entry_bytes)
{
	make_gdt();
	vm.cpu.idt = (struct hk_table_reg){.base = IDT, .limit = (uint16_t)(256 * entry_bytes - 1)};
	for (unsigned i = 0; i < 256; i++) {
		vm_set_gate(i, (vm.cpu.efer & HK_EFER_LMA) != 0 ? KERNEL_CODE : KERNEL_CODE_32,
			HANDLERS + i, 0x8e, 0);
	}
	/* Enough of both forms of TSS that CPL 3 can get to CPL 0 */
	if ((vm.cpu.efer & HK_EFER_LMA) != 0) {
		vm_poke(TSS + 4, STACK0, 8);
		vm_poke(TSS + 36, STACK_IST, 8);
	} else {
		vm_poke(TSS + 4, STACK0, 4);
		vm_poke(TSS + 8, KERNEL_DATA, 2);
	}
	vm_poke(TSS + 0x66, 0x68, 2);
	vm.cpu.seg[HK_TR] = (struct hk_segment){
		.base = TSS,
		.limit = 0x67,
		.selector = TASK,
		.attr = 0x8b,
	};
	vm.cpu.seg[HK_LDTR] = (struct hk_segment){.unusable = true};

	unsigned cpl = code & 3;
	bool is_64 = code == KERNEL_CODE || code == USER_CODE;

	for (unsigned i = 0; i <= HK_GS; i++) {
		vm.cpu.seg[i] = (struct hk_segment){
			.limit = UINT32_MAX,
			.selector = (uint16_t)data,
			.attr = (uint16_t)(0xc093 | cpl << 5),
		};
	}
	vm.cpu.seg[HK_CS].selector = (uint16_t)code;
	vm.cpu.seg[HK_CS].attr = (uint16_t)((is_64 ? 0xa09b : 0xc09b) | cpl << 5);
	vm.cpu.gpr[HK_RSP] = STACK_NOW;
	vm.cpu.rip = CODE;
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED);
	hk_cpu_flushed(&vm.cpu);
}

void vm_start_long(unsigned code)
{
	vm_poke(PML4, PDPT | 7, 8);
	vm_poke(PDPT, 0x87, 8); /* 1 GiB */
	vm.cpu.cr0 = HK_CR0_PG | HK_CR0_PE | HK_CR0_ET | HK_CR0_NE | HK_CR0_WP;
	vm.cpu.cr3 = PML4;
	vm.cpu.cr4 = HK_CR4_PAE | HK_CR4_OSFXSR;
	vm.cpu.efer = HK_EFER_LME | HK_EFER_LMA | HK_EFER_SCE | HK_EFER_NXE;
	start_common(code, (code & 3) == 3 ? USER_DATA : KERNEL_DATA, 16);
}

void vm_start_protected(unsigned code)
{
	vm.cpu.cr0 = HK_CR0_PE | HK_CR0_ET | HK_CR0_NE;
	vm.cpu.efer = 0;
	start_common(code, (code & 3) == 3 ? USER_DATA : KERNEL_DATA, 8);
}

void vm_start_real(void)
{
	hk_cpu_reset(&vm.cpu);
	vm.cpu.activity = HK_CPU_RUNNING;
	vm.cpu.seg[HK_CS].base = CODE;
	vm.cpu.seg[HK_CS].selector = CODE >> 4;
	vm.cpu.rip = 0;
	vm.cpu.idt = (struct hk_table_reg){.base = 0, .limit = 0x3ff};
	hk_cpu_flushed(&vm.cpu);
}

int vm_setup(void **state)
{
	static const struct hk_cpuid_leaf leaves[] = {
		{0, 0, false, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69},
		{1, 0, false, 0x206a7, 0, 1u << 26, 0},
		{0xb, 0, true, 0, 1, 0x100, 7},
		{0xd, 0, true, 3, 576, 576, 0},
		{0x40000000, 0, false, 0x40000001, 1, 2, 3},
		{0x40000001, 0, false, 8, 0, 0, 0},
		{0x80000000, 0, false, 0x80000008, 0, 0, 0},
		{0x80000008, 0, false, 39 | 48 << 8, 0, 0, 0},
	};

	(void)state;
	memset(&vm, 0, sizeof(vm));
	memcpy(vm.cpuid.leaves, leaves, sizeof(leaves));
	vm.cpuid.count = HK_ARRAY_SIZE(leaves);
	assert_int_equal(hk_mem_create(&vm.mem, 32 * HK_MIB, NULL), 0);
	assert_int_equal(hk_soft_mem_init(&vm.soft, &vm.mem, NULL), 0);
	assert_int_equal(hk_cpu_init(&vm.cpu, 0, &vm.cpuid, UINT32_MAX, &vm.soft, &bus), 0);
	return 0;
}

int vm_teardown(void **state)
{
	(void)state;
	hk_cpu_finish(&vm.cpu);
	hk_soft_mem_finish(&vm.soft);
	hk_mem_finish(&vm.mem);
	return 0;
}

/* Runs one instruction, @bytes at RIP; what it raises stays in cpu.event. */
void vm_run_bytes(const uint8_t *bytes, unsigned len)
{
	uint64_t at = vm.cpu.rip + vm.cpu.seg_base[HK_CS];

	assert_int_equal(hk_mem_write(&vm.mem, at, bytes, len), 0);
	vm.cpu.event = (struct hk_cpu_event){0};
	hk_cpu_step_raw(&vm.cpu);
}

/* The instruction faulted with @vector and @code, and RIP is at it. */
void vm_assert_fault(unsigned vector, uint32_t code)
{
	assert_true(vm.cpu.event.pending);
	assert_int_equal(vm.cpu.event.vector, vector);
	assert_int_equal(vm.cpu.event.code, code);
	vm.cpu.event.pending = false;
}

void vm_assert_ran(void)
{
	if (vm.cpu.event.pending) {
		print_error(
			"unexpected vector %u code 0x%x\n", vm.cpu.event.vector, vm.cpu.event.code);
	}
	assert_false(vm.cpu.event.pending);
}

/* The handler of @vector was entered. */
void vm_assert_entered(unsigned vector)
{
	assert_false(vm.cpu.failed);
	assert_false(vm.cpu.event.pending);
	assert_int_equal(vm.cpu.rip, HANDLERS + vector);
}

uint64_t vm_stack_word(unsigned index, unsigned width)
{
	return vm_peek((vm.cpu.seg_base[HK_SS] + vm.cpu.gpr[HK_RSP]) + index * width, width);
}

void vm_raise(unsigned vector, uint32_t code)
{
	hk_fault_code(&vm.cpu, (enum hk_vector)vector, code);
	hk_deliver_event(&vm.cpu);
}

void vm_push_words(unsigned width, const uint64_t *words, unsigned count)
{
	vm.cpu.gpr[HK_RSP] = STACK_NOW - count * width;
	for (unsigned i = 0; i < count; i++) {
		vm_poke(vm.cpu.gpr[HK_RSP] + i * width, words[i], width);
	}
}
