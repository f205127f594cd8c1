/** What `--help` prints: an overview, and a page for each command. */

/** All commands, a line each. */
export const overview = `Network functions in eBPF, written in TypeScript.

  tailrace doctor                              what this machine can do, and what to do about the rest
  tailrace run FILE --interface NAME           runs a pipeline on an interface, with live counters
  tailrace run FILE --pcap CAPTURE             runs a capture through a pipeline, in userspace
  tailrace graph FILE                          draws a pipeline, in the terminal or as SVG
  tailrace build FILE                          shows the compiled programs beside their source
  tailrace vm [MEMORY]                         runs one raw program, hex in and hex out
  tailrace pins                                lists pipelines that outlive their process
  tailrace stop PIPELINE                       removes one with all that it holds
  tailrace forget PIPELINE MAP                 deletes a map of one

  tailrace COMMAND --help                      options of a command
  tailrace --version

FILE is a TypeScript or JavaScript module whose default export, or only export of that kind, is a pipeline;
\`run\` takes an eBPF object file as well.
Output has colour on a terminal only, and none where NO_COLOR is set.
Exit codes: 0 fine, 1 failed, 2 wrong use; 128 and the signal's number where a signal stopped it.
`;

/** The page of each command. */
export const help = {
  doctor: `tailrace doctor [--interface NAME …] [--netns NAME] [--json]

Says what this machine can do, a line each: ✓ there, ✗ not there and what to do, ? cannot be told and why.
It tries everything on objects of its own and attaches nothing.

  -i, --interface NAME   an interface to look at, several times for several; default all Ethernet ones
      --netns NAME       their network namespace: a name that \`ip netns add\` gave, or a path
      --json             the report as JSON

Exit code 1 where something is missing, or cannot be told, that nothing runs without.
`,
  pins: `tailrace pins [--json]

Lists the pipelines that were run with \`persist\`: which process has each, where it is attached, its maps and how full they are.

      --json             as JSON
`,
  stop: `tailrace stop PIPELINE

Takes a pipeline that outlived its process off its interfaces, and deletes its maps with all that they hold. One that a process
has is refused: stop that.
`,
  forget: `tailrace forget PIPELINE MAP

Deletes a map of a pipeline that outlived its process, with all that it holds: one that nothing uses any more, or one that is
declared otherwise by now. The names are those that \`tailrace pins\` shows.
`,
  run: `tailrace run FILE --interface NAME [--interface NAME …] [options]
tailrace run FILE --pcap CAPTURE [--engine NAME] [--out CAPTURE] [options]

FILE is a module that exports a pipeline, or an eBPF object file that clang made.

With --interface it runs in the kernel until it is stopped by SIGINT, SIGTERM or SIGHUP, and is taken off cleanly. On a
terminal the pipeline's picture is redrawn with live counters; elsewhere a table is printed at the end.
An export \`services\` replaces services: [override(TOKEN, value), …].

  -i, --interface NAME   an interface to attach to, several times for several
      --netns NAME       their network namespace: a name that \`ip netns add\` gave, or a path
      --tc KIND          auto (default: tcx where the kernel has it), tcx, clsact
      --xdp MODE         auto (default: native where the driver has it), native, generic
      --interval MS      time between two pictures or lines; default 1000
      --for SECONDS      stops by itself after that time
      --trace N          a line for one packet in N: the stages that it went through, how it left each, what became of it
      --drops            a line for each packet that the pipeline drops: the stage, and why
      --persist          leaves the pipeline at work when the command ends; run again it goes on, \`tailrace stop\` ends it
      --json             one line of JSON an interval, a traced packet, a drop; 64-bit counters are strings

      --canary NEXT      some packets go through the pipeline of another module first, which is shown beside this one
      --share PERCENT    who: that share of all flows; without it, what the stage picks that NEXT exports as \`canary\`
      --promote SECONDS  all packets go there after that time; otherwise it is rolled back when the run stops

On a terminal keys change it: p promotes the canary, r rolls it back, t and d switch traces (of one packet in 1000, or in
what --trace says) and drops on and off, q quits.

With --pcap the packets of a capture (pcap or pcapng, also compressed by gzip) take their whole way, and it ends with
them: totals and the table of stages. Nothing is attached; only --engine kernel takes privileges.

      --pcap CAPTURE     what to read; - is the standard input
      --engine NAME      userspace (default), interpreter (the slow reference), kernel (a test run for each packet)
      --out CAPTURE      writes what leaves (pass, tx, redirect), as it leaves, as pcap; - is the standard output
      --json             one line of JSON a packet: { index, verdict, length, path }; the totals go to standard error
      --quiet            no totals, no table, no progress

With either:

      --section NAME     object files: the program of that section, or of that name
      --direction WAY    captures: ingress (default), by XDP and TC ingress, or egress, by TC egress; object files on an
                         interface: where a program of section \`tc\` goes

Exit codes: 0 after --for and after a capture, 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP, 1 where it could
not run, or where the capture is damaged: what comes before the damage is run and shown.
`,
  graph: `tailrace graph FILE [--svg FILE] [--json]
tailrace graph FILE --cost [--pcap CAPTURE [--engine NAME]] [--json]

Draws the pipeline that FILE exports. Nothing is loaded; no privileges are needed.

      --svg FILE         writes an SVG, for light and dark pages; - is the standard output
      --json             stages and edges as JSON

With --cost it says what each chain takes: as it is declared, with every stage a program of its own, and fused.

      --pcap CAPTURE     measures all of them by the first packets of a capture; - is the standard input
      --engine NAME      where: userspace (default), kernel (takes privileges)
      --json             the same as JSON
`,
  build: `tailrace build FILE [--stage NAME] [--json]

Compiles the pipeline that FILE exports and shows each program: size, stack, maps, and its instructions below the source
lines that they come from. Nothing is loaded; no privileges are needed.

      --stage NAME       that stage's programs only
      --json             the same as JSON
`,
  vm: `tailrace vm [MEMORY] [--engine NAME] [--program HEX]

Runs one raw program, as a plugin of the public bpf_conformance suite does: MEMORY and the program, which comes from
standard input, are bytes in hex, with white space between them or without. r1 is the address of the memory and r2 its
length; without memory both are 0. Prints r0 in hex.

      --engine NAME      wasm (default), interpreter, or kernel, which takes privileges
      --program HEX      the program, instead of standard input

Exit codes: 0 where the program ran; otherwise one line on standard error and 1, or 2 for wrong use.
`,
} as const;

/** The commands. */
export type CommandName = keyof typeof help;
