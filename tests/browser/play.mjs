// Plays a live HLS stream with hls.js in headless Chromium and fails unless playback never stops.
//
//   node play.mjs MASTER_URL SECONDS [CHROMIUM]
//
// Prints one line of JSON figures. Exit code: 0 played without a stall, 1 did not, 2 could not run.

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const START_MS_MAX = 20_000;
const PAUSE_MS_MAX = 1_000;
const LOOK_EVERY_MS = 250;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
];

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

// The page comes from another origin than the stream, as it would in the wild: CORS is tested too.
async function servePage() {
  const files = {
    "/": ["page.html", "text/html"],
    "/hls.js": ["node_modules/hls.js/dist/hls.min.js", "text/javascript"],
  };
  const server = createServer(async (request, response) => {
    const file = files[new URL(request.url, "http://page").pathname];
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": file[1] }).end(await readFile(here(file[0])));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

// What is wrong with the playback so far, or null.
function fault(record, waited_ms) {
  const bad = record.errors.find((error) => error.fatal || error.details === "bufferStalledError");
  if (bad !== undefined) {
    return `hls.js: ${bad.details} (fatal: ${bad.fatal}) ${bad.reason}`;
  }
  if (record.media_error) {
    return `video element: ${record.media_error}`;
  }
  if (record.started_ms === null) {
    return waited_ms > START_MS_MAX ? `playback did not start within ${waited_ms} ms` : null;
  }
  const pause_ms = Math.max(record.longest_pause_ms, record.now_ms - record.advanced_ms);
  return pause_ms > PAUSE_MS_MAX ? `currentTime stood still for ${Math.round(pause_ms)} ms` : null;
}

async function play(page, url, seconds) {
  await page.goto(url);
  const began = Date.now();
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    const record = await page.evaluate(() => window.record);
    const wrong = fault(record, Date.now() - began);
    const played_ms = record.started_ms === null ? 0 : record.now_ms - record.started_ms;
    if (wrong !== null || played_ms >= seconds * 1_000) {
      return { record, wrong, played_ms, start_ms: record.started_ms };
    }
  }
}

function report({ record, wrong, played_ms, start_ms }) {
  const round = (value) => (typeof value === "number" ? Math.round(value * 1_000) / 1_000 : value);
  console.log(JSON.stringify({
    ok: wrong === null,
    wrong,
    played_s: round(played_ms / 1_000),
    position_s: round(record.position_s),
    start_ms: round(start_ms),
    longest_pause_ms: round(record.longest_pause_ms),
    buffer_min_s: round(record.buffer_min_s),
    latency_s: round(record.latency_s),
    frames: record.frames,
    frames_dropped: record.frames_dropped,
    fragments: record.fragments,
    heights: record.levels,
    errors: record.errors,
  }));
}

async function main(master, seconds, executablePath) {
  const profile = await mkdtemp(join(tmpdir(), "tapeloop-browser-"));
  const server = await servePage();
  let browser;
  try {
    browser = await chromium.launchPersistentContext(profile, {
      executablePath,
      headless: true,
      args: FLAGS,
    });
    const page = await browser.newPage();
    page.on("pageerror", (error) => console.error(`page: ${error.message}`));
    const source = encodeURIComponent(master);
    const url = `http://127.0.0.1:${server.address().port}/?src=${source}`;
    const outcome = await play(page, url, seconds);
    report(outcome);
    return outcome.wrong === null ? 0 : 1;
  } finally {
    await browser?.close();
    server.close();
    await rm(profile, { recursive: true, force: true });
  }
}

const [master, seconds, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
if (master === undefined || !(Number(seconds) > 0)) {
  console.error("usage: node play.mjs MASTER_URL SECONDS [CHROMIUM]");
  process.exit(2);
}
try {
  process.exitCode = await main(master, Number(seconds), executablePath);
} catch (error) {
  console.error(`could not run: ${error.message}`);
  process.exitCode = 2;
}
