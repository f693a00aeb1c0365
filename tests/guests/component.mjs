// Makes a component out of what one of these command lines names:
//
//   node component.mjs command MODULE OUT         a WASI 0.1 program, as a WASI 0.2 command
//   node component.mjs library MODULE WIT OUT     a core module that follows the canonical ABI of a world
//   node component.mjs javascript SOURCE WIT OUT  a JavaScript module that exports what a world does
//
// It has to lie next to node_modules. The working directory is for temporary files.

import { readFile, writeFile } from 'node:fs/promises';
import process from 'node:process';

import { componentize } from '@bytecodealliance/componentize-js';
import { componentEmbed, componentNew, preview1AdapterCommandPath } from '@bytecodealliance/jco';

const kinds = {
  async command(module) {
    return componentNew(await readFile(module), [
      ['wasi_snapshot_preview1', await readFile(preview1AdapterCommandPath())],
    ]);
  },

  // The WIT is handed on as text: jco's own tools are components too, and may not open files.
  async library(module, wit) {
    const binary = await readFile(module);
    return componentNew(await componentEmbed({ binary, witSource: await readFile(wit, 'utf8') }), []);
  },

  async javascript(source, wit) {
    const { component } = await componentize(await readFile(source, 'utf8'), {
      witWorld: await readFile(wit, 'utf8'),
      // Wizer insists on a home, and keeps a cache in it.
      env: { HOME: process.cwd() },
    });
    return component;
  },
};

const [kind, ...files] = process.argv.slice(2);
const out = files.pop();
await writeFile(out, await kinds[kind](...files));
