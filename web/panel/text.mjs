// @ts-check
// The panel's texts. English decides which there are; a test compares the keys.

export const TEXTS = {
  en: {
    empty: 'The training is shown here once it runs.',
    waiting: 'Waiting',
    starting: 'Starting…',
    text: 'Encoding captions {done} / {total}',
    latents: 'Encoding images {done} / {total}',
    preparing: 'Preparing {done} / {total}',
    training: 'Training',
    stopping: 'Stopping…',
    stoppingEpoch: 'Stops after this epoch',
    stopped: 'Stopped',
    queueAgain: 'Queue the workflow again and it goes on from there.',
    finished: 'Finished',
    failed: 'Failed',
    broken: 'Broken off',
    elsewhere: 'This training was started outside of this ComfyUI; it can only be watched here.',
    step: 'step {step} / {total}',
    epoch: 'epoch {epoch} / {total}',
    left: '{time} left',
    days: '{days} d {hours} h',
    hours: '{hours} h {minutes} min',
    minutes: '{minutes} min',
    seconds: '{seconds} s',
    loss: 'loss',
    lossHint: 'Training loss: smoothed (bold) and each step (faint)',
    heldOut: 'held out',
    heldOutHint: 'Loss on the held-out pictures, always measured alike; the first dot is the bare base model',
    saved: 'saved',
    savedHint: 'Saved epochs, marked on the curve',
    rate: 'rate',
    rateHint: 'Learning rate as it truly is now, with what Prodigy has found: {rates}. On the curve from 0 to its highest.',
    pace: '{seconds} s/step',
    memory: '{size} GB',
    memoryHint: 'Most memory of the training process so far: {ram} GB of the computer\'s',
    memoryGpuHint: 'Most memory of the training process so far: {gpu} GB of the GPU\'s, {ram} GB of the computer\'s',
    stop: 'Stop',
    stopHint: 'Finish this step, save everything and stop. Queue again to go on.',
    stopEpoch: 'Stop after epoch',
    stopEpochHint: 'Finish this epoch, save everything and stop. Click again to take it back.',
    sample: 'Sample now',
    sampleHint: 'Draw the sample pictures after this step. The training itself does not change.',
    noPrompts: 'This run has no sample prompts.',
    save: 'Save now',
    saveHint: 'Save the file and the state after this step. The training itself does not change.',
    sampleAsked: 'The sample pictures come after this step.',
    saveAsked: 'It is saved after this step.',
    atEpoch: 'Epoch {epoch}',
    atStep: 'Step {step}',
    seed: 'seed {seed}',
    previous: 'Previous (←)',
    next: 'Next (→)',
    close: 'Close (Esc)',
    hover: 'step {step}: {loss}',
    hoverRange: 'steps {step} to {last}: {loss}',
  },
  zh: {
    empty: '开始训练后，这里显示训练过程。',
    waiting: '等待中',
    starting: '正在启动…',
    text: '正在编码标注 {done} / {total}',
    latents: '正在编码图片 {done} / {total}',
    preparing: '正在准备 {done} / {total}',
    training: '训练中',
    stopping: '正在停止…',
    stoppingEpoch: '这一轮结束后停止',
    stopped: '已停止',
    queueAgain: '再次运行工作流，即可从那里继续。',
    finished: '已完成',
    failed: '出错',
    broken: '已中断',
    elsewhere: '这个训练不是由当前的 ComfyUI 启动的，在这里只能观看。',
    step: '第 {step} / {total} 步',
    epoch: '第 {epoch} / {total} 轮',
    left: '剩余 {time}',
    days: '{days} 天 {hours} 小时',
    hours: '{hours} 小时 {minutes} 分',
    minutes: '{minutes} 分钟',
    seconds: '{seconds} 秒',
    loss: 'loss',
    lossHint: '训练 loss：平滑后（粗线）和每一步（浅色）',
    heldOut: '验证',
    heldOutHint: '验证图片上的 loss，每次测法相同；第一个点是未训练的底模',
    saved: '已保存',
    savedHint: '已保存的轮次，标在曲线上',
    rate: '学习率',
    rateHint: '当前实际的学习率（Prodigy 则为它找到的值）：{rates}。曲线上从 0 画到最高值。',
    pace: '{seconds} 秒/步',
    memory: '{size} GB',
    memoryHint: '训练进程至今占用最多：内存 {ram} GB',
    memoryGpuHint: '训练进程至今占用最多：显存 {gpu} GB，内存 {ram} GB',
    stop: '停止',
    stopHint: '做完这一步，全部保存后停止。再次运行即可继续。',
    stopEpoch: '本轮后停止',
    stopEpochHint: '做完这一轮，全部保存后停止。再点一次可撤回。',
    sample: '立即出预览图',
    sampleHint: '这一步之后画预览图，不影响训练结果。',
    noPrompts: '这次训练没有填预览图提示词。',
    save: '立即保存',
    saveHint: '这一步之后保存文件和训练状态，不影响训练结果。',
    sampleAsked: '这一步之后画预览图。',
    saveAsked: '这一步之后保存。',
    atEpoch: '第 {epoch} 轮',
    atStep: '第 {step} 步',
    seed: '种子 {seed}',
    previous: '上一张 (←)',
    next: '下一张 (→)',
    close: '关闭 (Esc)',
    hover: '第 {step} 步：{loss}',
    hoverRange: '第 {step} 到 {last} 步：{loss}',
  },
}

/** @typedef {keyof typeof TEXTS.en} TextKey */
/** @typedef {(key: TextKey, values?: Record<string, string | number>) => string} Translate */

/** The texts in the page's language: Chinese for any zh, English for all others. @param {string} locale @returns {Translate} */
export function texts(locale) {
  const table = locale.toLowerCase().startsWith('zh') ? TEXTS.zh : TEXTS.en
  return (key, values = {}) => table[key].replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole))
}

/** How long, as people say it. @param {number} seconds @param {Translate} t */
export function duration(seconds, t) {
  const minutes = Math.round(seconds / 60)
  if (seconds < 90) return t('seconds', { seconds: Math.round(seconds) })
  if (minutes < 90) return t('minutes', { minutes })
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return t('hours', { hours, minutes: minutes % 60 })
  return t('days', { days: Math.floor(hours / 24), hours: hours % 24 })
}
