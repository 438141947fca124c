/** The judge of the TCP drill is only worth something if it can fail: streams doctored in each way. */
import {
  ANSWER_BYTES,
  RECORD_BYTES,
  StreamModel,
  TcpJudge,
  type TcpVerdict,
  writeRecord,
} from '../support/tcp-oracle';

const MESSAGES = 50;
const SEED = 7n;
const BOOT_ID = 0x0123_4567_89ab_cdefn;

/** The records with these numbers, served one after the other by a true guest. */
function serve(
  numbers: readonly number[],
  bootId = BOOT_ID,
  model = new StreamModel(bootId),
): Buffer[] {
  const record = Buffer.alloc(RECORD_BYTES);
  return numbers.map((number) => {
    const answer = Buffer.alloc(ANSWER_BYTES);
    writeRecord(record, 0, number, SEED);
    model.serve(record, answer, 0);
    return answer;
  });
}

function judged(answers: readonly Buffer[]): TcpVerdict {
  const judge = new TcpJudge(MESSAGES, SEED);
  for (const answer of answers) judge.take(answer);
  return judge.finish();
}

const numbers = Array.from({ length: MESSAGES }, (_, n) => n + 1);
const clean = { lost: 0, repeated: 0, outOfOrder: 0, wrong: 0 };

test('a true stream is judged clean', () => {
  const verdict = judged(serve(numbers));
  expect(verdict).toEqual({ messages: MESSAGES, answered: MESSAGES, ...clean, stories: [] });
});

test('answers that are missing, in the middle or at the end, are lost', () => {
  const answers = serve(numbers);
  expect(judged(answers.toSpliced(20, 3))).toMatchObject({ ...clean, lost: 3 });
  const verdict = judged(answers.slice(0, -1));
  expect(verdict).toMatchObject({ ...clean, lost: 1, answered: MESSAGES - 1 });
  expect(verdict.stories).toEqual(['1 messages were never answered, the first of them is 50']);
  expect(judged([])).toMatchObject({ lost: MESSAGES });
});

test('an answer that comes twice is repeated', () => {
  const answers = serve(numbers);
  const twice = answers.toSpliced(30, 0, ...answers.slice(29, 30));
  expect(judged(twice)).toMatchObject({ ...clean, repeated: 1 });
});

test('answers that changed places are out of order', () => {
  const answers = serve(numbers);
  const [a, b] = answers.slice(10, 12);
  if (a === undefined || b === undefined) throw new Error('There are 50 answers.');
  expect(judged(answers.toSpliced(10, 2, b, a))).toMatchObject({ ...clean, outOfOrder: 1 });
});

test('a record that the guest lost, took twice or took too early shows in sum and hash', () => {
  const without = judged(serve(numbers.filter((number) => number !== 10)));
  expect(without).toMatchObject({ lost: 1, wrong: MESSAGES - 10 });
  // The guest took record 10 twice, but what it said the first time never came.
  const twice = serve(numbers.toSpliced(10, 0, 10)).toSpliced(9, 1);
  expect(judged(twice)).toMatchObject({ lost: 0, wrong: MESSAGES - 9 });
  // Two records changed places on the way in; the sum is right again afterwards, the hash is not.
  const swapped = serve(numbers.toSpliced(9, 2, 11, 10));
  expect(judged(swapped)).toMatchObject({ lost: 0, outOfOrder: 1, wrong: MESSAGES - 9 });
});

test('each field that was tampered with is found', () => {
  for (const [at, name] of [
    [8, 'sum'],
    [16, 'boot id'],
    [24, 'hash'],
  ] as const) {
    const answers = serve(numbers);
    const one = answers[33];
    one?.writeUInt8(one.readUInt8(at) ^ 1, at);
    const verdict = judged(answers);
    expect(verdict).toMatchObject({ ...clean, wrong: 1 });
    expect(verdict.stories).toEqual([
      expect.stringMatching(new RegExp(`^message 34 was answered with ${name} `)),
    ]);
  }
});

test('a guest that was restarted, or that went back in time, is found', () => {
  const first = serve(numbers.slice(0, 25));
  const restarted = [...first, ...serve(numbers.slice(25), 99n)];
  expect(judged(restarted)).toMatchObject({ ...clean, wrong: 25 });
  const model = new StreamModel(BOOT_ID);
  serve(numbers.slice(0, 20), BOOT_ID, model);
  const back = [...first, ...serve(numbers.slice(25), BOOT_ID, model)];
  expect(judged(back)).toMatchObject({ ...clean, wrong: 25 });
});

test('an answer to what was never sent is wrong', () => {
  expect(judged([...serve(numbers), ...serve([MESSAGES + 1])])).toMatchObject({ wrong: 1 });
  expect(judged([...serve(numbers), ...serve([0])])).toMatchObject({ wrong: 1 });
});
