# A kernel of one page that does what every 64-bit kernel does in its first second, and then says so.
#
# Why so much: KVM variants exist that run the firmware and even plain long-mode code, and hang where a stock kernel
# moves to the top half of the address space, or let POPF silently leave the interrupt flag alone. So each thing that
# a kernel rests on is done *and checked*. Port 0xf4 (QEMU's isa-debug-exit) gets the sentinel 0x2a at the end, or the
# number of the check that failed; QEMU then exits with 2 * value + 1. A triple fault or a hang gives neither.
#
# Build (the result is checked in as accelerator_proof.hex, a test compares):
#   as --64 -o proof.o accelerator_proof.S && objcopy -O binary -j .text proof.o proof.bin
#
# Memory: 0x100000 this code, 0x200000 page tables, 0x206000 IDT, 0x280000 stack, 0x300000 two pages to tell apart.

    .intel_syntax noprefix
    .set BASE, 0x100000
    .set HIGH, 0xffffffff80000000      # where Linux has its text
    .set PML4, 0x200000
    .set PDPT_LOW, 0x201000
    .set PD, 0x202000
    .set PDPT_HIGH, 0x203000
    .set PML4_OTHER, 0x204000
    .set PT, 0x205000
    .set IDT, 0x206000
    .set STACK, 0x280000
    .set PAGE_A, 0x300000
    .set PAGE_B, 0x301000
    .set WINDOW, 0xe00000              # mapped by a 4 KiB entry
    .set EXIT_PORT, 0xf4

    .macro check number                # the flags must say "equal"
    je 1f
    mov al, \number
    out EXIT_PORT, al
1:
    .endm

    .macro gate vector, handler        # an interrupt gate to a handler in the top half
    mov rax, HIGH + BASE + (\handler - start)
    mov rdi, IDT + 16 * \vector
    mov [rdi], ax
    mov word ptr [rdi + 2], 0x08
    mov word ptr [rdi + 4], 0x8e00
    shr rax, 16
    mov [rdi + 6], ax
    shr rax, 16
    mov [rdi + 8], eax
    mov dword ptr [rdi + 12], 0
    .endm

    .text
start:
# --- multiboot header: load this file at BASE, start at `entry` in 32-bit protected mode --------------------------
    .long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
    .long BASE, BASE, 0, 0, BASE + (entry - start)

    .code32
entry:
    cli
    cld
# --- page tables: the first 16 MiB at 0 and at HIGH, in 2 MiB pages, but the last 2 MiB through a page table -------
    xor eax, eax
    mov edi, PML4
    mov ecx, (IDT + 0x1000 - PML4) / 4
    rep stosd
    mov dword ptr [PML4], PDPT_LOW + 7
    mov dword ptr [PML4 + 8 * 511], PDPT_HIGH + 7
    mov dword ptr [PDPT_LOW], PD + 7
    mov dword ptr [PDPT_HIGH + 8 * 510], PD + 7
    mov eax, 0x87                      # present, writable, user, 2 MiB
    mov edi, PD
    mov ecx, 8
fill:
    mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop fill
    mov dword ptr [PD + 8 * 7], PT + 7
    mov dword ptr [PT], PAGE_A + 7
    mov esi, PML4                      # a second address space, the same
    mov edi, PML4_OTHER
    mov ecx, 1024
    rep movsd
# --- into long mode -----------------------------------------------------------------------------------------------
    mov eax, 0x620                     # CR4: PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, PML4
    mov cr3, eax
    mov ecx, 0xc0000080                # EFER: SCE, LME, NXE
    mov eax, 0x901
    xor edx, edx
    wrmsr
    mov eax, 0x80010033                # CR0: PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lgdt [BASE + (gdt_pointer - start)]
    ljmp 0x08, BASE + (low64 - start)

    .code64
low64:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    mov rax, HIGH + BASE + (high64 - start)
    jmp rax

high64:                                # from here on as a kernel: top half, own stack there
    mov rsp, HIGH + STACK
    lgdt [rip + gdt_pointer_high]
# 1: the processor says long mode is active, and we are in ring 0
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xd01
    cmp eax, 0xd01
    check 1
    mov ax, cs
    cmp ax, 8
    check 1
# 2: CPUID knows long mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    sbb eax, eax
    cmp eax, -1
    check 2
# 3: exceptions: a breakpoint comes back
    gate 3, on_breakpoint
    gate 14, on_page_fault
    gate 32, on_timer
    lidt [rip + idt_pointer]
    xor r14d, r14d
    int3
    cmp r14, 3
    check 3
# 4: a page fault names its address
    lea r13, [rip + after_fault]
    mov rax, 0x40000000
    mov rax, [rax]
    mov r14, 0                         # not reached: the handler goes on at r13
after_fault:
    mov rax, 0x40000000
    cmp r14, rax
    check 4
# 5: a changed mapping is seen after INVLPG, and after a change of address space
    mov dword ptr [PAGE_A], 0xaaaa
    mov dword ptr [PAGE_B], 0xbbbb
    cmp dword ptr [WINDOW], 0xaaaa
    check 5
    mov dword ptr [PT], PAGE_B + 7
    invlpg [WINDOW]
    cmp dword ptr [WINDOW], 0xbbbb
    check 5
    mov dword ptr [PT], PAGE_A + 7
    mov rax, PML4_OTHER
    mov cr3, rax
    cmp dword ptr [WINDOW], 0xaaaa
    check 5
    mov rax, cr3
    cmp rax, PML4_OTHER
    check 5
# 6: a read-only page is read-only to the kernel too (CR0.WP)
    mov dword ptr [PT], PAGE_A + 5
    invlpg [WINDOW]
    lea r13, [rip + after_write]
    xor r14d, r14d
    mov dword ptr [WINDOW], 0
after_write:
    cmp r14, WINDOW
    check 6
# 7: the interrupt flag does what CLI, STI and POPF say (all lines are masked at the controller yet)
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    sti
    pushfq
    pop rax
    and eax, 0x200
    cmp eax, 0x200
    check 7
    push 2
    popfq
    pushfq
    pop rax
    and eax, 0x200
    cmp eax, 0
    check 7
# 8: SWAPGS and its two registers
    mov ecx, 0xc0000102                # KERNEL_GS_BASE
    mov eax, 0x1234000
    mov edx, 0xffffffff
    wrmsr
    swapgs
    mov ecx, 0xc0000101                # GS_BASE
    rdmsr
    cmp eax, 0x1234000
    check 8
    cmp edx, 0xffffffff
    check 8
    swapgs
# 9: to user mode by SYSRET, and back by SYSCALL
    mov ecx, 0xc0000081                # STAR: kernel 0x08, user 0x18
    xor eax, eax
    mov edx, 0x00180008
    wrmsr
    mov rax, HIGH + BASE + (on_syscall - start)
    mov rdx, rax
    shr rdx, 32
    mov ecx, 0xc0000082                # LSTAR
    wrmsr
    mov ecx, 0xc0000084                # SFMASK: interrupts off
    mov eax, 0x200
    xor edx, edx
    wrmsr
    mov rcx, BASE + (user - start)
    mov r11d, 2
    xor edi, edi
    sysretq
on_syscall:
    cmp edi, 0x2b                      # what user mode had as CS: 0x28, ring 3
    check 9
    mov ax, cs
    cmp ax, 8
    check 9
# 10: SSE registers
    mov rax, 0x0123456789abcdef
    movq xmm0, rax
    movq xmm1, xmm0
    movq rbx, xmm1
    cmp rax, rbx
    check 10
# 11: time passes
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov rbx, rax
    rdtsc
    shl rdx, 32
    or rax, rdx
    cmp rbx, rax
    sbb eax, eax                       # all ones if earlier < later
    cmp eax, -1
    check 11
# 12: the timer interrupts a halted processor, ten times
    mov al, 0x11                       # both controllers: vectors from 32, only line 0 open
    out 0x20, al
    out 0xa0, al
    mov al, 32
    out 0x21, al
    mov al, 40
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0xff
    out 0xa1, al
    mov al, 0x34                       # timer 0, rate generator, 1193 counts: 1 ms
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 0x04
    out 0x40, al
    xor r14d, r14d
ticks:
    sti
    hlt
    cli
    cmp r14, 10
    jb ticks
    mov al, 0x2a                       # everything holds
    out EXIT_PORT, al
stop:
    hlt
    jmp stop

    .balign 16
user:                                  # ring 3, bottom half
    xor eax, eax
    mov ax, cs
    mov edi, eax
    syscall
    hlt                                # not reached

on_breakpoint:
    add r14, 3
    iretq

on_page_fault:
    mov r14, cr2
    add rsp, 8                         # the error code
    mov [rsp], r13
    iretq

on_timer:
    inc r14
    push rax
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq

    .balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff           # 0x08 kernel code, 64 bit
    .quad 0x00cf93000000ffff           # 0x10 kernel data
    .quad 0x00cffb000000ffff           # 0x18 user code, 32 bit: SYSRET counts from here
    .quad 0x00cff3000000ffff           # 0x20 user data
    .quad 0x00affb000000ffff           # 0x28 user code, 64 bit
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long BASE + (gdt - start)
gdt_pointer_high:
    .word gdt_end - gdt - 1
    .quad HIGH + BASE + (gdt - start)
idt_pointer:
    .word 16 * 33 - 1
    .quad HIGH + IDT
