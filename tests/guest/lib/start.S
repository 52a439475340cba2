/* SPDX-License-Identifier: ISC */
/*
 * How a tiny guest starts: the 64-bit entry (RSI: zero page), the PVH entry (EBX: start info) and
 * the trampoline of the other CPUs all end in C, in long mode, with 512 GiB identity-mapped by
 * 1 GiB pages and SSE switched on.
 *
 * Sources: Linux Documentation/x86/boot.rst; Xen docs/misc/pvh.pandoc; Intel SDM vol. 3A, 9.8.5
 * (to IA-32e mode), 8.4.4 (MP initialization).
 */
#define CODE32 0x08
#define DATA   0x10
#define CODE64 0x18
#define STACK_BYTES 16384

	.section .note.Xen, "a"
	.balign 4
	.long 4, 4, 18 /* sizes of name and value; XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start_pvh

	.text
	.code32
start_pvh:
	movl $boot_stack_end, %esp
	movl %ebx, %edi
	movl $1, guest_is_pvh
	lgdt gdt_pointer
	call enter_long_mode
	ljmp $CODE64, $start_common

/* Paging and long mode on, by the tables that are filled in here. Uses EAX, ECX, EDX. */
enter_long_mode:
	movl $page_pdpt + 3, page_pml4
	xorl %ecx, %ecx
1:	movl %ecx, %eax
	shll $30, %eax
	orl $0x83, %eax /* present, writable, 1 GiB */
	movl %eax, page_pdpt(, %ecx, 8)
	movl %ecx, %eax
	shrl $2, %eax
	movl %eax, page_pdpt + 4(, %ecx, 8)
	incl %ecx
	cmpl $512, %ecx
	jne 1b
	movl $page_pml4, %eax
	movl %eax, %cr3
	movl $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x900, %eax /* LME, NXE */
	wrmsr
	movl $0x80000033, %eax /* PG, NE, ET, MP, PE */
	movl %eax, %cr0
	ret

	.code64
	.globl start64
start64:
	movl $boot_stack_end, %esp
	movl %esi, %edi
	lgdt gdt_pointer
	/* Through 32-bit mode, as that is where the code above is at home. */
	pushq $CODE32
	pushq $1f
	lretq
	.code32
1:	movl $DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $0x31, %eax /* paging off, and so long mode */
	movl %eax, %cr0
	call enter_long_mode
	ljmp $CODE64, $start_common

	.code64
start_common:
	movl $DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movl %edi, %edi
	xorl %ebp, %ebp
	call guest_start
1:	hlt
	jmp 1b

/* Copied to 0x8000, where a SIPI with vector 8 starts a CPU in real mode. */
	.globl ap_trampoline, ap_trampoline_end
	.code16
ap_trampoline:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	lgdtl 0x8000 + (ap_gdt_pointer - ap_trampoline)
	movl $0x11, %eax
	movl %eax, %cr0
	ljmpl $CODE32, $ap_start32
	.balign 4
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_trampoline_end:

	.code32
ap_start32:
	movl $DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $1, %ebx /* its number among those that come here */
	lock xaddl %ebx, ap_next
	movl %ebx, %esp
	incl %esp
	imull $STACK_BYTES, %esp
	addl $ap_stacks, %esp
	call enter_long_mode
	ljmp $CODE64, $ap_start64
	.code64
ap_start64:
	xorl %ebp, %ebp
	movl %ebx, %edi
	call guest_ap_start
1:	hlt
	jmp 1b

	.data
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00af9b000000ffff
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt
	.globl guest_is_pvh
	.balign 4
guest_is_pvh:
	.long 0
ap_next:
	.long 0

	.bss
	.balign 4096
page_pml4:
	.skip 4096
page_pdpt:
	.skip 4096
	.skip STACK_BYTES
boot_stack_end:
ap_stacks:
	.skip STACK_BYTES * 16

	.section .note.GNU-stack, "", @progbits
